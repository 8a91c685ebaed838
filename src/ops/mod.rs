//! Operators: functions on tensors, each with a hand-written gradient. One file, or one folder, is one family.
//!
//! An operator checks shapes, launches its forward kernels, and gives the [`Recorder`](crate::tape::Recorder) a rule
//! that launches its backward kernels. `&Var` operands get a gradient, `&Tensor` operands do not. The maths of a family
//! is in `shaders/<family>.wgsl`. How to add an operator: `src/ops/README.md`.
//!
//! In the documentation of operators, (B, L, D) is a shape, (.., D) a shape with any leading dimensions, and → leads to
//! the shape of the result. `F` is `torch.nn.functional`. Elements are f32 unless said otherwise. An operator fails
//! with [`Error::Argument`](crate::Error::Argument) if shapes do not fit; `# Errors` lists other reasons.

pub mod activation;
pub mod adamw;
pub mod add;
pub mod attention;
pub mod batch_norm;
pub mod box_refine;
pub mod chamfer;
pub mod channel_gate;
pub mod concat;
pub mod conv1d;
pub mod conv2d;
pub mod cross_entropy;
pub mod diffusion;
pub mod dropout;
pub mod ema;
pub mod hide;
pub mod info_nce;
pub mod l2_norm;
pub mod layer_scale;
pub mod local_norm_pool;
pub mod loss_scale;
pub mod masked_loss;
pub mod matmul;
pub mod max_concat;
pub mod mlp;
pub mod modulate;
pub mod mse_norm;
pub mod neighbors;
pub mod norm;
pub mod parts;
pub mod patchify;
pub mod pick;
pub mod pixel_loss;
pub mod pool;
pub mod reduce;
pub mod registers;
pub mod resample;
pub mod reshape;
pub mod rng;
pub mod roi_align;
pub mod scale;
pub mod selective_scan;
pub mod ss2d;
pub mod ssm;
pub mod step;
pub mod swiglu;
pub mod tokens;
pub mod upsample;

use crate::gpu::Kernel;

/// Every kernel of every family. The tests of shaders, the browser's compiler check and the tuner read this list.
#[doc(hidden)]
pub fn all() -> Vec<&'static Kernel> {
    [
        activation::KERNELS,
        adamw::KERNELS,
        add::KERNELS,
        attention::KERNELS,
        batch_norm::KERNELS,
        box_refine::KERNELS,
        chamfer::KERNELS,
        channel_gate::KERNELS,
        concat::KERNELS,
        conv1d::KERNELS,
        conv2d::KERNELS,
        cross_entropy::KERNELS,
        diffusion::KERNELS,
        dropout::KERNELS,
        ema::KERNELS,
        hide::KERNELS,
        info_nce::KERNELS,
        l2_norm::KERNELS,
        layer_scale::KERNELS,
        local_norm_pool::KERNELS,
        loss_scale::KERNELS,
        masked_loss::KERNELS,
        matmul::KERNELS,
        max_concat::KERNELS,
        modulate::KERNELS,
        mse_norm::KERNELS,
        neighbors::KERNELS,
        norm::KERNELS,
        parts::KERNELS,
        patchify::KERNELS,
        pick::KERNELS,
        pixel_loss::KERNELS,
        pool::KERNELS,
        reduce::KERNELS,
        registers::KERNELS,
        resample::KERNELS,
        rng::KERNELS,
        roi_align::KERNELS,
        scale::KERNELS,
        selective_scan::KERNELS,
        swiglu::KERNELS,
        tokens::KERNELS,
        upsample::KERNELS,
    ]
    .concat()
}
