from pose import *
from graphwq.calibrate.sweep import Sweep
from graphwq.rewrite.planner import Options, plan_survey
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.calibrate.blas import one_thread
from graphwq.calibrate import choose, layer
import math
view=build(graph); survey=locate_in(view)
r=Runner(graph,optimize=False,threads=2)
P=photos()
before=[r.run(OUT,{'image:0':p})[OUT[0]] for p in P]
def evaluate(given):
    w={}
    for s in survey.sites:
        g=given.get(s.weight)
        if g: w[s.node+':0']=g.quantized.dequantize().astype(np.float32)
    return score(before,[r.run(OUT,{'image:0':p,**w})[OUT[0]] for p in P])
def go(bits,feeds,ridges=None,positions=None,compare=False):
    if ridges: choose.RIDGES=ridges
    plan=plan_survey(view,survey,Options(bits=bits,method='gptq'),None)
    t=time.time()
    sw=Sweep(r,view,survey.sites,[{'image:0':f} for f in feeds],compare=compare)
    s=sw.run(plan)
    return evaluate(s.given), time.time()-t
H,W=368,432
if __name__=='__main__':
    for name,feeds in [('128 0..255',[noise(128,128,g) for g in (1,2,4,8)]),('full 0..255',[noise(H,W,g) for g in (1,2,4,8)]),('photos',P)]:
        for bits in (4,3):
            print(name,bits,go(bits,feeds),flush=True)
