"""Six small networks of the kinds that people use, with random weights, written as a user would."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """A residual block whose ReLU is used twice, with a projection where the shape changes."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride > 1:
            conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 7, 4, 3, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Squeeze(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x):
        s = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(s))))


class Inverted(nn.Module):
    """Expand, filter each channel, weigh the channels, project."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        c = 4 * c_in
        self.adds = stride == 1 and c_in == c_out
        self.block = nn.Sequential(
            nn.Conv2d(c_in, c, 1, bias=False), nn.BatchNorm2d(c), nn.Hardswish(),
            nn.Conv2d(c, c, 3, stride, 1, groups=c, bias=False), nn.BatchNorm2d(c), nn.Hardswish(),
            Squeeze(c), nn.Conv2d(c, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
        )  # fmt: skip

    def forward(self, x):
        return x + self.block(x) if self.adds else self.block(x)


class Mobile(nn.Module):
    def __init__(self):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.Hardswish())
        self.features = nn.Sequential(
            stem, Inverted(8, 8, 1), Inverted(8, 16, 2), Inverted(16, 16, 1), Inverted(16, 24, 2)
        )
        self.classifier = nn.Sequential(nn.Linear(24, 32), nn.Hardswish(), nn.Linear(32, 10))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class DenseLayer(nn.Module):
    """BatchNorm before the convolution, whose output is joined to its input."""

    def __init__(self, c, growth):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(c), nn.Conv2d(c, growth, 3, 1, 1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.block1 = nn.Sequential(DenseLayer(16, 8), DenseLayer(24, 8))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1), nn.AvgPool2d(2)
        )
        self.block2 = nn.Sequential(DenseLayer(16, 8), DenseLayer(24, 8))
        self.norm, self.fc = nn.BatchNorm2d(32), nn.Linear(32, 10)

    def forward(self, x):
        x = self.block2(self.transition(self.block1(self.stem(x))))
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, d, heads=2):
        super().__init__()
        self.norm1, self.qkv, self.proj = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.heads = heads

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.proj(a)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Tokens(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, d, 16, 16), nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.pos = nn.Parameter(torch.randn(1, 17, d) * 0.02)
        self.blocks = nn.Sequential(*[Attention(d) for _ in range(4)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


class NextBlock(nn.Module):
    """Channels last, as in ConvNeXt."""

    def __init__(self, d):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(d, d, 7, 1, 3, groups=d), nn.LayerNorm(d)
        self.fc1, self.fc2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.gamma = nn.Parameter(torch.full((d,), 0.5))

    def forward(self, x):  # (B, H, W, C)
        y = self.norm(self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + self.gamma * self.fc2(F.gelu(self.fc1(y)))


class Next(nn.Module):
    def __init__(self, d=24):
        super().__init__()
        self.stem = nn.Conv2d(3, d, 8, 8)
        self.stages = nn.Sequential(*[NextBlock(d) for _ in range(4)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 10)

    def forward(self, x):
        x = self.stages(self.stem(x).permute(0, 2, 3, 1))
        return self.head(self.norm(x.mean((1, 2))))


class Sequence(nn.Module):
    """One-dimensional convolutions over a window of six channels."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(6, 16, 5, 2, 2), nn.BatchNorm1d(16)
        self.conv2, self.bn2 = nn.Conv1d(16, 32, 5, 2, 2), nn.BatchNorm1d(32)
        self.conv3, self.fc = nn.Conv1d(32, 32, 3, 1, 1), nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.relu(self.conv3(x)).mean(2))


def seeded(kind):
    """Return a network with weights and statistics that are not those of a new one."""
    torch.manual_seed(5)
    network = kind()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def residual():
    return seeded(Residual)


def mobile():
    return seeded(Mobile)


def dense():
    return seeded(Dense)


def tokens():
    return seeded(Tokens)


def channels_last():
    return seeded(Next)


def sequence():
    return seeded(Sequence)
