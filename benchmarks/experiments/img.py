import numpy as np
def pink(h,w,rs,beta=1.0):
    """1/f^beta amplitude noise, 3 channels with correlated colours, 0..255"""
    fy=np.fft.fftfreq(h)[:,None]; fx=np.fft.rfftfreq(w)[None]
    f=np.sqrt(fy**2+fx**2); f[0,0]=1.0/max(h,w)
    a=f**-beta; a[0,0]=0
    z=[]
    for c in range(3):
        ph=rs.random_sample(a.shape)*2*np.pi
        z.append(np.fft.irfft2(a*np.exp(1j*ph)*np.sqrt(-np.log(rs.random_sample(a.shape)+1e-12)),s=(h,w)))
    z=np.stack(z,-1); z/=z.std()
    # colour mixing: luminance dominates
    M=np.array([[1,1,1],[.35,0,-.35],[.15,-.3,.15]])*np.array([[1.],[1.],[1.]])
    x=z@M
    x/=x.std()
    return np.clip(127+55*x,0,255).astype(np.float32)[None]
def leaves(h,w,rs,rmin=2,rmax=None,n=3000,texture=20,alpha=3.0):
    rmax=rmax or min(h,w)//3
    img=np.zeros((h,w,3)); filled=np.zeros((h,w),bool)
    yy,xx=np.mgrid[:h,:w]
    # radius power law p(r)~r^-alpha
    u=rs.random_sample(n); k=1-alpha
    rad=(rmin**k+u*(rmax**k-rmin**k))**(1/k)
    base=rs.random_sample(3)*255
    for i in range(n):  # front to back: first drawn stays
        r=rad[i]; cy=rs.uniform(-r,h+r); cx=rs.uniform(-r,w+r)
        y0,y1=int(max(0,cy-r)),int(min(h,cy+r+1)); x0,x1=int(max(0,cx-r)),int(min(w,cx+r+1))
        lum=rs.random_sample()*255
        col=np.clip(lum+rs.randn(3)*30,0,255); gx,gy=rs.randn(2)*40/ r
        if y0>=y1 or x0>=x1: continue
        Y=yy[y0:y1,x0:x1]-cy; X=xx[y0:y1,x0:x1]-cx
        kind=rs.randint(3)
        if kind==0: m=X*X+Y*Y<=r*r
        elif kind==1:
            t=rs.uniform(0,np.pi); c,s=np.cos(t),np.sin(t); q=rs.uniform(.2,1)
            m=(np.abs(c*X+s*Y)<=r*.7)&(np.abs(-s*X+c*Y)<=r*.7*q)
        else:
            t=rs.uniform(0,np.pi); c,s=np.cos(t),np.sin(t); q=rs.uniform(.2,1)
            m=(c*X+s*Y)**2+((-s*X+c*Y)/q)**2<=r*r
        m&=~filled[y0:y1,x0:x1]
        v=col+ (gx*X+gy*Y)[...,None]
        img[y0:y1,x0:x1][m]=v[m]
        filled[y0:y1,x0:x1]|=m
    bg=pink(h,w,rs)[0]
    img[~filled]=bg[~filled]
    tx=(pink(h,w,rs,.8)[0]-127)/55*texture*rs.random_sample()
    img=np.clip(img+tx,0,255)
    # slight blur
    for ax in (0,1):
        img=(np.roll(img,1,ax)+2*img+np.roll(img,-1,ax))/4
    return img.astype(np.float32)[None]
