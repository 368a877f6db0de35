"""What cosines ask of their rows: length 1, and the way back."""

import torch


def unit(a, da):
    """Rows of length 1, or 0 where they are, what they were divided by, as its inverse, and how they move."""
    # Of the largest element's size, or squares would overflow; the direction does not depend on it.
    largest = a.detach().abs().amax(-1, keepdim=True)
    none = largest == 0
    scaled = a / torch.where(none, 1, largest)
    length = torch.where(none, 1, scaled.square().sum(-1, keepdim=True)).sqrt()
    inverse = torch.where(none, 0, 1 / (length * torch.where(none, 1, largest)))
    u = scaled / length
    return u, inverse, inverse * (da - u * (u * da).sum(-1, keepdim=True))


def bent(of, g, moved, da):
    """By how much a row's gradient moves along `da`, where `of = unit(a, da)`, the gradient by the row of length 1 is
    `g`, and that moves by `moved`.

    With `u = a/|a|` the gradient by a is `P·g/|a|`, where `P·x = x − u·(u·x)` is what of x is across `u`.
    """
    u, inverse, du = of
    onto = lambda x: (u * x).sum(-1, keepdim=True)  # noqa: E731
    across = lambda x: x - u * onto(x)  # noqa: E731
    turned = onto(da) * across(g) + onto(g) * across(da)
    return inverse * (across(moved) - inverse * turned - (g * du).sum(-1, keepdim=True) * u)
