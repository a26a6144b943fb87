"""One weight, one direction, one step: theta0 - lambda * g_f, and back."""

import torch

from slugkit.base import GradientError, SettingError
from slugkit.method.layers import part_rows, split_layer
from slugkit.method.ranking import importance

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def stepped(
    theta0: torch.Tensor, direction: torch.Tensor, lam: float, out: torch.Tensor | None = None
) -> torch.Tensor:
    """theta0 - lam * direction, all fp32 and of one shape, into `out` or a new tensor.

    The one place where a step is computed: a product rounded to fp32, then a difference rounded to
    fp32, so that the bits depend neither on the layout in memory nor on the number of threads.
    Allocates one temporary tensor.
    """
    step = torch.mul(direction, lam)
    return torch.sub(theta0, step, out=step if out is None else out)


class EditableLayer:
    """One weight, or some rows of it, that can be moved along a direction and put back bit for bit.

    As a context manager it puts the original back whatever happens inside. Keeps one copy of the
    layer (and an fp32 one for a half-precision weight).

    Args:
        parameter: the weight of a model, fp32, fp16 or bf16, changed in place.
        direction: the forget gradient g_f in the shape of the layer.
        rows: of the weight, those that make up the layer, for a part of a packed q/k/v matrix.

    Attributes:
        theta0: the original.
        direction: in fp32.
        importance: ||g_f|| / ||theta0||, above 0.

    Raises:
        ShapeError, ZeroWeightError, SettingError: another dtype.
        GradientError: nan or inf, or a direction of zeros.
    """

    def __init__(self, parameter: torch.Tensor, direction: torch.Tensor, rows: slice | None = None):
        whole = parameter.detach()
        self._view = whole if rows is None else whole[rows]
        if self._view.dtype not in PRECISIONS:
            raise SettingError(
                f"the weight has the type {self._view.dtype}; float32, float16 or bfloat16 was"
                " expected. Convert the model, say with model.float()."
            )
        self.theta0 = self._view.clone()
        self.direction = direction.detach().to(device=self._view.device, dtype=torch.float32)
        self.importance = importance(self.direction, self.theta0)
        if self.importance == 0.0:
            raise GradientError(
                "the direction is all zeros; a forget gradient that reaches the layer was expected."
                " Exclude the layer from the candidates."
            )
        self._theta32 = self.theta0.float()

    @classmethod
    def of(
        cls, model: torch.nn.Module | torch.Tensor, layer: str, direction: torch.Tensor
    ) -> "EditableLayer":
        """The layer of a torch model by its name in that model, a suffix [q], [k] or [v] included.

        model: or the whole weight itself. Raises AttributeError (no such weight).
        """
        name, part = split_layer(layer)
        parameter = model if isinstance(model, torch.Tensor) else model.get_parameter(name)
        return cls(parameter, direction, part_rows(len(parameter), part) if part else None)

    def rho(self, lam: float) -> float:
        """Relative size of the step lam: rho = lam * importance, unitless."""
        return lam * self.importance

    def lam(self, rho: float) -> float:
        """Step lambda of relative size rho."""
        return rho / self.importance

    def set(self, lam: float) -> None:
        """Write theta0 - lam * direction into the model (computed in fp32, then cast)."""
        if self._view.dtype == torch.float32:
            stepped(self._theta32, self.direction, lam, out=self._view)
        else:
            self._view.copy_(stepped(self._theta32, self.direction, lam))

    def restore(self) -> None:
        """Write the original back, bit for bit."""
        self._view.copy_(self.theta0)

    def __enter__(self) -> "EditableLayer":
        return self

    def __exit__(self, *exc_info) -> None:
        self.restore()
