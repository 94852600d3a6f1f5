"""The U-Net of the post in PyTorch: bench_torch.py DATA.npz THREADS [channels_last] [compile]"""
import sys
import bench_side
import torch
import torch.nn as nn
import torch.nn.functional as F

bench_side.say(at="start", version=torch.__version__)
torch.set_num_threads(int(sys.argv[2]))


def pair(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(True), nn.Conv2d(o, o, 3, padding=1), nn.ReLU(True))


class UNet(nn.Module):
    def __init__(self, c=(3, 8, 16, 32, 64, 128), classes=5):
        super().__init__()
        self.down = nn.ModuleList(pair(i, o) for i, o in zip(c, c[1:]))
        up = list(zip(c[:1:-1], c[-2:0:-1]))
        self.up = nn.ModuleList(m for i, o in up for m in (nn.ConvTranspose2d(i, o, 2, 2), pair(i, o)))
        self.head = nn.Conv2d(c[1], classes, 1)

    def forward(self, x):
        skip = []
        for m in self.down:
            x = m(F.max_pool2d(x, 2) if skip else x)
            skip.append(x)
        skip.pop()
        for up, m in zip(self.up[::2], self.up[1::2]):
            x = m(torch.cat([up(x), skip.pop()], 1))
        return self.head(x)


def loss_of(net, x, t):
    z = net(x)
    p = torch.sigmoid(z)
    dice = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    return F.binary_cross_entropy_with_logits(z, t) + 1 - dice


images, masks, weights = bench_side.load(sys.argv[1])
net = UNet()
with torch.no_grad():  # [kh,kw,in,out] and [kh,kw,out,in]: either way reversed, filters kept
    for p, w in zip(net.parameters(), weights, strict=True):
        p.copy_(torch.from_numpy(w.transpose(3, 2, 0, 1) if w.ndim == 4 else w))
x, t = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (images, masks))
if "channels_last" in sys.argv:
    net, x, t = (a.to(memory_format=torch.channels_last) for a in (net, x, t))
if "compile" in sys.argv:
    net, loss_of = torch.compile(net), torch.compile(loss_of)
adam = torch.optim.Adam(net.parameters(), 1e-3)


def step():
    adam.zero_grad(set_to_none=True)
    loss = loss_of(net, x, t)
    loss.backward()
    adam.step()
    return loss.item()


def forward():
    with torch.no_grad():
        net(x)


bench_side.serve(step, forward, sum(p.numel() for p in net.parameters()))
