from exp import *
from exp import _set
import img
from dataclasses import replace
rs=np.random.RandomState(0)
K=[img.pink(H,W,rs) for _ in range(4)]
L=[img.leaves(H,W,rs) for _ in range(4)]
def inp(frag):
    st=[x for x in survey.sites if frag in x.weight][0]
    return nodes[st.consumers[0].node].data_inputs[0]
def ref(t): 
    t=TensorRef.parse(t); return '%s:%d'%(t.node,t.port)
T=[ref(inp(f)) for f in ('expanded_conv_2/expand','expanded_conv_6/expand','Stage1_L1_1_depthwise')]
print(T)
fl=[r.run(T,{'image:0':p}) for p in P]
def ev(given):
    w={}
    for s in survey.sites:
        g=given.get(s.weight)
        if g: w[s.node+':0']=g.quantized.dequantize().astype(np.float32)
    out=[]
    for p,b in zip(P,fl):
        a=r.run(T,{'image:0':p,**w})
        out.append(' '.join('%5.1f'%score([b[t]-b[t].mean((0,1,2))],[a[t]-b[t].mean((0,1,2))])[0] for t in T))
    return out
def run2(bits,feeds,simple=False,method='gptq',filt='MobilenetV2',tag='',**kw):
    d=dict(center=0,alpha=0.,norm=True,ridge=math.inf,damp=0.0003,mix=0.)
    d.update(kw); cfg.__dict__.update(d)
    Activations.set_weight=(lambda self,*a:None) if simple else _set
    plan=plan_survey(view,survey,Options(bits=bits,method=method),None)
    plan=replace(plan,items=tuple(i for i in plan.items if filt in i.weight))
    t=time.time()
    s=Sweep(r,view,survey.sites,[{'image:0':f} for f in feeds]).run(plan)
    print(bits,tag,'simple' if simple else '',method,kw,ev(s.given),'%.0fs'%(time.time()-t),flush=True)
    return s
if __name__=='__main__':
    run2(8,[],method='absmax'); run2(4,[],method='absmax')
    for tag,fe in(('noise',N),('pink',K),('leaves',L),('photo',P)):
        run2(4,fe,True,tag=tag)
        run2(4,fe,True,tag=tag,center=1)
        run2(4,fe,tag=tag,center=1,ridge=.003)
        run2(4,fe,tag=tag,center=1,ridge=.1)
