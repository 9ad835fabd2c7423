from t1 import *
from graphwq.calibrate.gram import gram
from graphwq.calibrate.activations import Activations
from graphwq.calibrate.batchnorm import by_batch
from graphwq.graphdef.node import TensorRef
from graphwq.quant.target import corrected
from graphwq.quant.part import Part
from graphwq.quant.second_order import second_order
from graphwq.quant.scheme import QuantizedTensor
from graphwq.quant.quantize import scale_shape
import graphwq.calibrate.sweep as sweep
N=[noise(H,W,g) for g in (1,2,4,8)]
nodes=view.main.nodes
cons={}
for n in nodes.values():
    for i in n.data_inputs: cons.setdefault(TensorRef.parse(i).node,[]).append(n)
def in_train_bn(node):
    c=cons.get(node,[])
    while len(c)==1 and c[0].op in('BiasAdd','Add','Identity'): c=cons.get(c[0].name,[])
    return bool(c) and all(by_batch(x) for x in c)
class Cfg: pass
cfg=Cfg(); cfg.center=0; cfg.alpha=0.; cfg.norm=True; cfg.ridge=0.003; cfg.damp=0.0003; cfg.mix=0.0; cfg.pos=8192
def moments(l, pairs):
    m={};places={}
    tb=all(in_train_bn(c.node) for c in l.site.consumers)
    for use in l.uses:
        key=use.index.tobytes(); places[key]=use.index
        for after,before in pairs:
            x,f=(layer._vectors(use,s[use.tensor]).astype(np.float64) for s in (after,before))
            if cfg.center==2 or (cfg.center and tb):
                k=(1-np.sqrt(cfg.alpha))
                x=x-k*x.mean(1,keepdims=True); f=f-k*f.mean(1,keepdims=True)
            own=gram(f,f)
            new=[gram(x,x),gram(f,x),own]
            if cfg.norm:
                en=float(np.trace(own,axis1=1,axis2=2).sum()); new=[a/en if en else a for a in new]
            old=m.get(key)
            m[key]=new if old is None else [a+b for a,b in zip(old,new)]
    return [layer.Seen(places[k],*v) for k,v in m.items()]
layer._moments=moments
def mychoose(l, halves, weight, scheme):
    flat=weight.reshape(-1).astype(np.float64)
    seen=layer.together(halves)
    parts=[]
    for one in seen:
        rows=flat[one.index]; groups=l.groups[one.index[:,:,0]]
        t=rows if math.isinf(cfg.ridge) else corrected(rows,one.hessian,one.cross,cfg.ridge)
        Hm=one.hessian*(1-cfg.mix)+one.own*cfg.mix
        parts.append(Part(t,rows!=0,Hm,groups))
    found,scale=second_order(parts,l.count,scheme.num_bits,cfg.damp,scheme.scale_bits)
    codes=np.zeros(weight.size,np.int8)
    for one,own in zip(seen,found): codes[one.index]=own.astype(np.int8)
    return QuantizedTensor(codes.reshape(weight.shape),scale.reshape(scale_shape(weight.shape,scheme.granularity)),scheme)
sweep.choose=mychoose
_set=Activations.set_weight
def run(bits,feeds,simple=False,**kw):
    d=dict(center=0,alpha=0.,norm=True,ridge=0.003,damp=0.0003,mix=0.)
    d.update(kw); cfg.__dict__.update(d)
    Activations.set_weight=(lambda self,*a:None) if simple else _set
    plan=plan_survey(view,survey,Options(bits=bits,method='gptq',min_elements=0) if 0 else Options(bits=bits,method='gptq'),None)
    s=Sweep(r,view,survey.sites,[{'image:0':f} for f in feeds]).run(plan)
    e=evaluate(s.given)
    print(bits,'simple' if simple else '',kw,['%.1f'%x for x in e],flush=True)
    return s
