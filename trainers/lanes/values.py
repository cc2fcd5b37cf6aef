"""Values of K lanes between two layers, in the form that the next operation needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

LAST = torch.channels_last


def lay_out_gradient(outputs: torch.Tensor) -> None:
    """Let the gradient of an operation's outputs have one layout, whatever operation it is from.

    The bits of a backward pass depend on it, and it would differ with the number of lanes.
    """
    if outputs.requires_grad:
        layout = LAST if outputs.dim() == 4 else torch.contiguous_format
        outputs.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: gradient.contiguous(memory_format=layout)
        )


class Values:
    """Outputs of one layer in K lanes, each for B images.

    They are kept in one of three forms: side by side in the channels (B, K·C, H, W), as rows
    (K, B, F), or apart, one tensor (B, …) per lane. A form is made when it is asked for.
    """

    def __init__(
        self,
        lanes: int,
        *,
        channels: torch.Tensor | None = None,
        rows: torch.Tensor | None = None,
        apart: Sequence[torch.Tensor] | None = None,
    ):
        """Take exactly one form."""
        self.lanes = lanes
        self._channels, self._rows, self._apart = channels, rows, apart

    @classmethod
    def of(cls, apart: Sequence[torch.Tensor]) -> Values:
        """Return the values whose lanes are the tensors (B, …)."""
        return cls(len(apart), apart=apart)

    @classmethod
    def of_rows(cls, rows: torch.Tensor) -> Values:
        """Return the values whose lanes are `rows` (K, B, F)."""
        return cls(len(rows), rows=rows)

    @classmethod
    def of_channels(cls, channels: torch.Tensor, lanes: int) -> Values:
        """Return the values whose lanes are slices of the channels (B, K·C, H, W)."""
        return cls(lanes, channels=channels)

    @classmethod
    def of_places(cls, places: torch.Tensor, lanes: int, shape: Sequence[int]) -> Values:
        """Return the values (B, C, H, W) of each lane, which `places` (B·H·W, K·C) has in order."""
        images, _, height, width = shape
        channels = places.view(images, height, width, -1).permute(0, 3, 1, 2)
        return cls(lanes, channels=channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (B, …) of the values of one lane."""
        if self._channels is not None:
            images, channels, *place = self._channels.shape
            return (images, channels // self.lanes, *place)
        if self._rows is not None:
            return tuple(self._rows.shape[1:])
        assert self._apart is not None
        return tuple(self._apart[0].shape)

    @property
    def dim(self) -> int:
        """Number of dimensions of the values of one lane."""
        return len(self.shape)

    @property
    def device(self) -> torch.device:
        """Device of the values."""
        if self._channels is not None:
            return self._channels.device
        return (self._rows if self._rows is not None else self.apart()[0]).device

    @property
    def is_view(self) -> bool:
        """True if the values lie in a tensor of another shape."""
        joined = self._channels if self._channels is not None else self._rows
        return joined is not None and bool(joined._is_view())

    def channels(self) -> torch.Tensor:
        """Return values (B, C, H, W) of each lane as (B, K·C, H, W), channels last."""
        if self._channels is None:
            parts = self.apart()
            joined = torch.cat([part.contiguous(memory_format=LAST) for part in parts], 1)
            self._channels = joined.contiguous(memory_format=LAST)
        return self._channels

    def places(self) -> torch.Tensor:
        """Return values (B, C, H, W) of each lane as (B·H·W, K·C)."""
        return self.channels().permute(0, 2, 3, 1).flatten(0, 2).contiguous()

    def rows(self) -> torch.Tensor:
        """Return values (B, F) of each lane as (K, B, F)."""
        if self._rows is None:
            self._rows = torch.stack(list(self.apart()))
        return self._rows

    def apart(self) -> Sequence[torch.Tensor]:
        """Return a tensor (B, …) per lane, which a module may change in place."""
        if self._apart is None:
            if self._rows is not None:
                self._apart = [lane.clone() for lane in self._rows]
            else:
                assert self._channels is not None
                parts = self._channels.chunk(self.lanes, 1)
                self._apart = [part.clone(memory_format=LAST) for part in parts]
        return self._apart

    def side_by_side(self) -> torch.Tensor:
        """Return values (B, F) of each lane as (B, K·F)."""
        return self.rows().transpose(0, 1).flatten(1)

    def __add__(self, other: Values) -> Values:
        """Return the sums of values (B, C, H, W) of each lane."""
        if self._channels is not None or other._channels is not None:
            return Values.of_channels(self.channels() + other.channels(), self.lanes)
        pairs = zip(self.apart(), other.apart(), strict=True)
        return Values.of([one + another for one, another in pairs])

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Values:
        """Return the values after a function of single numbers."""
        if self._channels is not None:
            return Values(self.lanes, channels=function(self._channels))
        if self._rows is not None:
            return Values(self.lanes, rows=function(self._rows))
        return Values.of([function(lane) for lane in self.apart()])

    def map_channels(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Values:
        """Return the values after a function of single channels (H, W)."""
        return Values(self.lanes, channels=function(self.channels()))

    def flat(self) -> Values:
        """Return values (B, C, H, W) of each lane as (K, B, C·H·W)."""
        if self._rows is not None:
            return self
        if self._channels is None:
            return Values.of([lane.flatten(1) for lane in self.apart()])
        images = len(self._channels)
        return Values.of_rows(self._channels.reshape(images, self.lanes, -1).transpose(0, 1))

    def joined(self, others: Values) -> Values:
        """Return these lanes followed by `others`, in the form of these."""
        lanes = self.lanes + others.lanes
        if self._channels is not None:
            channels = torch.cat([self._channels, others.channels()], 1)
            return Values(lanes, channels=channels.contiguous(memory_format=LAST))
        if self._rows is not None:
            return Values(lanes, rows=torch.cat([self._rows, others.rows()]))
        return Values.of([*self.apart(), *others.apart()])
