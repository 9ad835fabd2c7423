import sys, time, json, pickle
from pathlib import Path
import numpy as np
sys.path.insert(0,'/work/main')
import graphwq
from graphwq.tf1.session import Runner
from graphwq.quant.metrics import sqnr_db
C=Path('/work/shared/corpus')
m=json.load(open(C/'manifest.json'))
entry=next(e for e in m if 'mobilenet_v2_small' in e['file'])
graph=graphwq.load(C/entry['file'])
def photos():
    from PIL import Image
    from sklearn.datasets import load_sample_images
    return [np.asarray(Image.fromarray(i).resize((432,368)),np.float32)[None] for i in load_sample_images().images]
def noise(h,w,grain,lo=0,hi=255,seed=0):
    r=np.random.RandomState(seed+grain)
    n=r.random_sample((1,-(-h//grain),-(-w//grain),3)).repeat(grain,1).repeat(grain,2)[:,:h,:w]
    return (lo+n*(hi-lo)).astype(np.float32)
def score(before,after):
    return [sqnr_db(float((b.astype(np.float64)**2).sum()), float(((b.astype(np.float64)-a)**2).sum())) for b,a in zip(before,after)]
OUT=entry['outputs']
