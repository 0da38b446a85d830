"""Newton-Schulz orthogonalisation: the one place where Muon's matrix sign is computed.

Every step maps each singular value s of X to a s + b s^3 + c s^5, with its own (a, b, c); after all of them every
singular value that was not tiny is close to 1, so X has become the orthogonal factor of its polar decomposition.

Sources: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks" (quintic iteration); the public
code of LaCT, Zhang et al. 2025, arXiv:2505.23884 (first schedule: a triple of its own for each of five steps); Amsel et
al. 2025, "The Polar Express", arXiv:2505.16932 (second schedule, with its safety factor of 1.01).
"""

from typing import Any

import torch
from torch import Tensor

Triple = tuple[float, float, float]

_SAFETY = 1.01
_POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
SCHEDULES: dict[str, tuple[Triple, ...]] = {
    "muon": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    "polar_express": tuple((a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _POLAR_EXPRESS),
}
_SMALLEST_NORM = 1e-7


def newton_schulz(matrices: Tensor, schedule: str = "muon") -> Tensor:
    """Replace every matrix by (nearly) its orthogonal polar factor: U S V^T becomes U V^T.

    The result does not depend on a matrix's scale; a zero matrix stays zero. Computed in bfloat16 on a GPU, otherwise
    in the dtype of the input.

    Args:
        matrices: [..., rows, columns].
        schedule: a key of `SCHEDULES`.

    Returns:
        [..., rows, columns], in the dtype of the input.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_SMALLEST_NORM)
    if x.is_cuda:
        x = x.bfloat16()
    has_gradient = torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling()
    for triple in SCHEDULES[schedule]:
        x = _Iteration.apply(x, *triple)[0] if has_gradient else _iterate(x, *triple)[0]
    return (x.mT if tall else x).to(matrices.dtype)


def relative_muon_step(matrices: Tensor, gradients: Tensor, share: float | Tensor, schedule: str = "muon") -> Tensor:
    """Move every matrix against its orthogonalised gradient by `share` of the matrix's own Frobenius norm.

    Both are [..., rows, columns]; a zero gradient leaves its matrix as it was.
    """
    direction = newton_schulz(gradients, schedule)
    length = torch.linalg.matrix_norm(direction, keepdim=True).clamp(min=_SMALLEST_NORM)
    return matrices - share * torch.linalg.matrix_norm(matrices, keepdim=True) / length * direction


def _iterate(x: Tensor, a: float, b: float, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """The next x, and what it was made with: g = x x^T and p = b g + c g g, both symmetric."""
    gram = x @ x.mT
    polynomial = torch.add(b * gram, gram @ gram, alpha=c)
    return torch.add(polynomial @ x, x, alpha=a), gram, polynomial


class _Iteration(torch.autograd.Function):
    """`_iterate` with four products in the backward pass, where automatic differentiation makes six.

    With d the gradient of the next x, and s = d x^T + x d^T, which is all that the symmetric p needs, the gradient of x
    is a d + p d + (b s + c (g s + s g)) x. What is in brackets is h = b d x^T + c g s with its transpose. Where the
    gradient is to be differentiated once more, g and p are made anew, as functions of x.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, a: float, b: float, c: float) -> tuple[Tensor, Tensor, Tensor]:
        return _iterate(x, a, b, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float, float], output: tuple[Tensor, ...]) -> None:
        x, *ctx.triple = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, *output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, gram, polynomial = ctx.saved_tensors
        a, b, c = ctx.triple
        if torch.is_grad_enabled():
            _, gram, polynomial = _iterate(x, a, b, c)
        d, x = gradients[0].to(gram.dtype), x.to(gram.dtype)  # that of the products, in mixed precision
        half = d @ x.mT
        h = torch.add(b * half, gram @ (half + half.mT), alpha=c)
        of_products = polynomial @ d + (h + h.mT) @ x
        return torch.add(of_products, gradients[0], alpha=a), None, None, None
