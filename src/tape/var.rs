//! Variables: tensors that are differentiated, and how an operator names those that it takes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::tensor::Tensor;

/// A tensor with an id under which its gradient is accumulated: PyTorch's `requires_grad`. Operators take `&Var` for
/// operands that they differentiate, and `&Tensor` for the others.
#[derive(Debug, Clone)]
pub struct Var {
    id: u64,
    /// The value.
    pub data: Tensor,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Var {
    /// A leaf that gets a gradient: a parameter, or an input (`requires_grad=True`).
    pub fn leaf(data: Tensor) -> Self {
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), data }
    }
    /// A value that needs no gradient (`requires_grad=False`). Rules skip the work for it.
    pub fn constant(data: Tensor) -> Self {
        Self { id: 0, data }
    }
    /// The id: equal for clones, 0 for constants.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The operands that an operator differentiates: `&Var`, `Option<&Var>`, and slices and tuples of these.
pub trait Operands {
    /// The same operands by value, for the rule to own.
    type Owned: 'static;

    /// Clones the operands. The clones share their values, because a [`Var`] is a handle.
    fn to_owned(&self) -> Self::Owned;

    /// Whether every operand is a constant, so that the operator needs no rule.
    fn are_constant(&self) -> bool;
}

impl Operands for &Var {
    type Owned = Var;

    fn to_owned(&self) -> Var {
        (*self).clone()
    }

    fn are_constant(&self) -> bool {
        self.id == 0
    }
}

impl<O: Operands> Operands for Option<O> {
    type Owned = Option<O::Owned>;

    fn to_owned(&self) -> Self::Owned {
        self.as_ref().map(O::to_owned)
    }

    fn are_constant(&self) -> bool {
        self.as_ref().is_none_or(O::are_constant)
    }
}

impl<O: Operands> Operands for &[O] {
    type Owned = Vec<O::Owned>;

    fn to_owned(&self) -> Self::Owned {
        self.iter().map(O::to_owned).collect()
    }

    fn are_constant(&self) -> bool {
        self.iter().all(O::are_constant)
    }
}

macro_rules! operands_of_tuples {
    ($(($($name:ident . $at:tt),+))+) => {$(
        impl<$($name: Operands),+> Operands for ($($name,)+) {
            type Owned = ($($name::Owned,)+);

            fn to_owned(&self) -> Self::Owned {
                ($(self.$at.to_owned(),)+)
            }

            fn are_constant(&self) -> bool {
                $(self.$at.are_constant())&&+
            }
        }
    )+};
}

operands_of_tuples! {
    (A.0, B.1)
    (A.0, B.1, C.2)
    (A.0, B.1, C.2, D.3)
    (A.0, B.1, C.2, D.3, E.4)
    (A.0, B.1, C.2, D.3, E.4, F.5)
    (A.0, B.1, C.2, D.3, E.4, F.5, G.6)
    (A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7)
}
