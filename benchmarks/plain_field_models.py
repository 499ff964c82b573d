"""Convolutional models in plain PyTorch, for comparison: see `plain_grid_models`."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.plain_task import Task

__all__ = ["Cnn", "ConvLstm", "ConvLstmSeq2Seq", "DeepCnn", "PixelUnet"]


def _normed(layer: nn.Module) -> list[nn.Module]:
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]


class Cnn(nn.Module):
    """CNN: frames as channels, half the grid and back."""

    def __init__(self, task: Task, hidden_channels: int = 64) -> None:
        super().__init__()
        width, self._steps = hidden_channels, task.output_length
        channels = task.input_length * task.channels
        self.encoder = nn.Sequential(
            *_normed(nn.Conv2d(channels, width, 3, padding=1)),
            *_normed(nn.Conv2d(width, 2 * width, 3, padding=1)),
            *_normed(nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)),
            *_normed(nn.Conv2d(2 * width, 4 * width, 3, padding=1)),
        )
        self.decoder = nn.Sequential(
            *_normed(nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)),
            *_normed(nn.Conv2d(2 * width, width, 3, padding=1)),
            nn.Conv2d(width, task.output_length * task.channels, 3, padding=1),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        x = self.decoder(self.encoder(frames.flatten(1, 2)))
        return x.view(batch, self._steps, *shape)


class _ResidualBlock(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(x + self.bn2(self.conv2(y)))


class DeepCnn(nn.Module):
    """DeepCNN: residual blocks at full resolution."""

    def __init__(
        self, task: Task, hidden_channels: int = 64, n_residual_blocks: int = 3
    ) -> None:
        super().__init__()
        width, self._steps = hidden_channels, task.output_length
        channels = task.input_length * task.channels
        self.input_projection = nn.Conv2d(channels, width, 3, padding=1)
        self.residual_blocks = nn.Sequential(
            *(_ResidualBlock(width) for _ in range(n_residual_blocks))
        )
        self.output_projection = nn.Conv2d(
            width, task.output_length * task.channels, 3, padding=1
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        x = self.residual_blocks(self.input_projection(frames.flatten(1, 2)))
        return self.output_projection(x).view(batch, self._steps, *shape)


class _Cell(nn.Module):
    """ConvLSTMCell: one convolution for all four gates."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + width, 4 * width, kernel, padding=kernel // 2)

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, cell = state
        gates = self.conv(torch.cat([x, hidden], dim=1))
        i, f, g, o = torch.chunk(gates, 4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


def _cells(task: Task, width: int, layers: int, kernel: int) -> nn.ModuleList:
    return nn.ModuleList(
        _Cell(width if i else task.channels, width, kernel) for i in range(layers)
    )


def _encode(
    cells: nn.ModuleList, frames: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the last state of the last layer."""
    batch, steps, _, rows, columns = frames.shape
    zeros = frames.new_zeros(batch, width, rows, columns)
    states = [(zeros, zeros)] * len(cells)
    for t in range(steps):
        x = frames[:, t]
        for layer, cell in enumerate(cells):
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
    return states[-1]


class ConvLstm(nn.Module):
    """ConvLSTM: cells over frames, and two convolutions on what is left."""

    def __init__(
        self,
        task: Task,
        hidden_channels: int = 64,
        num_layers: int = 2,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        width, self._steps = hidden_channels, task.output_length
        self._width = width
        self.cells = _cells(task, width, num_layers, kernel_size)
        self.output_conv = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, task.output_length * task.channels, 1),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        hidden, _ = _encode(self.cells, frames, self._width)
        return self.output_conv(hidden).view(batch, self._steps, *shape)


class ConvLstmSeq2Seq(nn.Module):
    """Cells over frames, and one more that reads what it has predicted."""

    def __init__(
        self,
        task: Task,
        hidden_channels: int = 64,
        num_layers: int = 2,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        width, self._steps = hidden_channels, task.output_length
        self._width = width
        self.encoder_cells = _cells(task, width, num_layers, kernel_size)
        self.decoder_cell = _Cell(task.channels, width, kernel_size)
        self.output_conv = nn.Conv2d(width, task.channels, 1)

    def forward(
        self,
        frames: torch.Tensor,
        targets: torch.Tensor | None = None,
        teacher_forcing_ratio: float = 0.0,
    ) -> torch.Tensor:
        """Returns the frames; at each step the truth may stand for the prediction."""
        state = _encode(self.encoder_cells, frames, self._width)
        frame, found = frames[:, -1], []
        for step in range(self._steps):
            state = self.decoder_cell(frame, state)
            frame = self.output_conv(state[0])
            found.append(frame)
            if targets is not None and torch.rand(()) < teacher_forcing_ratio:
                frame = targets[:, step]
        return torch.stack(found, dim=1)


class _ConvBlock(nn.Module):
    """Two convolutions, each normalised in eight groups."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.norm1(self.conv1(x)))
        return functional.silu(self.norm2(self.conv2(x)))


class _DownBlock(nn.Module):
    """Returns the field at half the resolution, and as it was before."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = _ConvBlock(channels, width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        skip = self.conv(x)
        return functional.max_pool2d(skip, 2), skip


class _UpBlock(nn.Module):
    """Twice the resolution, joined with what was kept."""

    def __init__(self, channels: int, skip_channels: int, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = _ConvBlock(channels // 2 + skip_channels, width)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([self.up(x), skip], dim=1))


class PixelUnet(nn.Module):
    """Frames as channels of a U-Net."""

    def __init__(self, task: Task, base_channels: int = 64, depth: int = 4) -> None:
        super().__init__()
        self._steps = task.output_length
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.input_conv = nn.Conv2d(
            task.input_length * task.channels, widths[0], 3, padding=1
        )
        self.down_blocks = nn.ModuleList(
            _DownBlock(widths[max(level - 1, 0)], widths[level])
            for level in range(depth)
        )
        self.bottleneck = _ConvBlock(widths[max(depth - 1, 0)], widths[depth])
        self.up_blocks = nn.ModuleList(
            _UpBlock(widths[level + 1], widths[level], widths[level])
            for level in reversed(range(depth))
        )
        self.output_conv = nn.Conv2d(widths[0], task.output_length * task.channels, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns the frames that follow `frames`."""
        batch, _, *shape = frames.shape
        x, skips = self.input_conv(frames.flatten(1, 2)), []
        for block in self.down_blocks:
            x, skip = block(x)
            skips.append(skip)
        x = self.bottleneck(x)
        for block in self.up_blocks:
            x = block(x, skips.pop())
        return self.output_conv(x).view(batch, self._steps, *shape)
