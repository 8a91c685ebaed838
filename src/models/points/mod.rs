//! Networks on point clouds: Mamba3D, the three-dimensional HybridNet and Point-MAE's transformer, their classifiers
//! and their pretraining (src/models/README.md, "Point clouds").

mod classifier;
mod config;
mod encoder;
mod pretraining;

pub use classifier::{PointClassifier, PointPrediction};
pub use config::{PointConfig, PointLoss, PointMixers};
pub use encoder::{PointBatch, PointEncoder};
pub use pretraining::{PointPretraining, PointReconstruction};
