//! Parameters, and layers that are parameters plus calls to operators.

mod conv;
mod cross_mamba;
mod init;
mod linear;
mod mamba;
mod mamba_vision;
mod norm;
mod params;
mod points;
mod ss2d;
mod stored;
mod transformer;
mod weights;
mod window_partition;

pub use conv::{Conv2d, ConvConfig, ConvLayerNorm, ConvNorm, Deconv, Padding};
pub use cross_mamba::CrossMamba;
pub use init::{Init, InitScheme, stable_hash};
pub use linear::Linear;
pub use mamba::{Directions, MambaConfig, MambaMixer};
pub use mamba_vision::MambaVisionMixer;
pub use norm::{BatchNorm, BatchNormConfig, LayerNorm, ResidualNorm, RmsNorm};
pub use params::{Flat, Observed, Params, Part, Running};
pub use points::{LocalNormPooling, PatchPointNet, PositionMlp};
pub use ss2d::{Ss2dConfig, Ss2dMixer};
pub use stored::stored;
pub use transformer::{Block, BlockConfig, CrossBlock, Mlp, SelfAttention, Sight};
pub use weights::{Entry, Mismatch, Weights};
pub use window_partition::WindowPartition;
