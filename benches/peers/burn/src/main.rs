//! Training steps and operators that rowscan is compared with, in Burn on wgpu:
//!
//! ```text
//! rowscan-peer-burn CASE... [--warm-up N] [--steps N]     one JSON line for each case
//! ```
//!
//! A step is waited for. A training step is forward pass, cross entropy, backward pass, AdamW. Burn chooses kernels by
//! timing them the first time it meets a shape, so that the first step is a matter of minutes.

mod convnext;
mod resnet;

use std::time::Instant;

use burn::backend::Autodiff;
use burn::backend::wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
use burn::module::AutodiffModule;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{AdamWConfig, GradientsParams, Optimizer, SimpleOptimizer};
use burn::prelude::*;
use burn::tensor::Distribution::Normal;
use burn::tensor::TensorPrimitive;
use burn::tensor::activation::gelu;
use burn::tensor::ops::ActivationOps;
use serde_json::{Value, json};

type Inner = burn::backend::Wgpu;
type Train = Autodiff<Inner>;

const CASES: [&str; 7] = [
    "resnet50",
    "convnext_tiny",
    "gelu_319488",
    "gelu_2555904",
    "gelu_backward_319488",
    "gelu_backward_2555904",
    "adamw_1000000",
];
const BATCH: usize = 8;
const SIDE: usize = 64;
/// What rowscan takes for images of this side.
const CLASSES: usize = 10;
/// Learning rate.
const LR: f64 = 1e-4;

/// Steps before the first one that is timed, and timed ones.
struct Clock {
    warm_up: usize,
    steps: usize,
    device: WgpuDevice,
}

impl Clock {
    /// Milliseconds: the first step, which compiles and tunes, then median, minimum and maximum of the timed ones. The
    /// result of a step lives until the device is done: Burn does not compute what is dropped before it is launched.
    fn time<T>(&self, mut step: impl FnMut() -> T) -> Value {
        let mut once = || {
            let start = Instant::now();
            let result = step();
            Inner::sync(&self.device).expect("the device waits");
            drop(result);
            start.elapsed().as_secs_f64() * 1e3
        };
        let first = once();
        (1..self.warm_up).for_each(|_| {
            once();
        });
        let mut each: Vec<f64> = (0..self.steps).map(|_| once()).collect();
        each.sort_by(f64::total_cmp);
        json!({
            "ms": each[each.len() / 2], "ms_min": each[0], "ms_max": each[each.len() - 1], "first_ms": first,
            "samples": each.len(),
        })
    }
}

fn adamw() -> AdamWConfig {
    AdamWConfig::new().with_beta_2(0.999).with_epsilon(1e-8).with_weight_decay(0.05)
}

/// A training step of a network: `forward` gives the logits. timm's number of parameters is that with 1000 classes;
/// Burn counts the running statistics of batch norm too.
fn training<M: AutodiffModule<Train>>(
    clock: &Clock, model: M, [of_timm, features, statistics]: [usize; 3],
    forward: impl Fn(&M, Tensor<Train, 4>) -> Tensor<Train, 2>,
) -> Value {
    let parameters = model.num_params() - statistics;
    assert_eq!(parameters, of_timm - (1000 - CLASSES) * (features + 1), "parameters of timm's, with {CLASSES} classes");
    let device = &clock.device;
    let images = Tensor::random([BATCH, 3, SIDE, SIDE], Normal(0.0, 1.0), device);
    let labels = Tensor::<Train, 1, Int>::arange(0..BATCH as i64, device);
    let cross_entropy: CrossEntropyLoss<Train> = CrossEntropyLossConfig::new().init(device);
    let mut optimizer = adamw().init();
    let (mut model, mut last) = (Some(model), None);
    let mut row = clock.time(|| {
        let before = model.take().expect("each step leaves a model");
        let loss = cross_entropy.forward(forward(&before, images.clone()), labels.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &before);
        model = Some(optimizer.step(LR, before, grads));
        last = Some(loss);
    });
    let loss = last.expect("at least one step").into_scalar();
    assert!(loss.is_finite(), "a loss of {loss}");
    row["parameters"] = json!(parameters);
    row["loss"] = json!(loss);
    row
}

fn normal(n: usize, device: &WgpuDevice) -> Tensor<Inner, 1> {
    Tensor::random([n], Normal(0.0, 1.0), device)
}

fn case(name: &str, clock: &Clock) -> Value {
    let device = &clock.device;
    match name {
        "resnet50" => {
            training(clock, resnet::ResNet::new(CLASSES, device), [25_557_032, 2048, 2 * 26_560], |m, x| m.forward(x))
        }
        "convnext_tiny" => {
            training(clock, convnext::ConvNext::new(CLASSES, device), [28_589_128, 768, 0], |m, x| m.forward(x))
        }
        _ => {
            let (operator, n) = name.rsplit_once('_').expect("one of CASES");
            let n = n.parse().expect("one of CASES");
            let (x, dy) = (normal(n, device), normal(n, device));
            match operator {
                "gelu" => clock.time(|| gelu(x.clone())),
                "gelu_backward" => {
                    let inner = |x: &Tensor<Inner, 1>| x.clone().into_primitive().tensor();
                    let back = || Inner::gelu_backward(inner(&x), inner(&dy));
                    clock.time(|| Tensor::<Inner, 1>::from_primitive(TensorPrimitive::Float(back())))
                }
                _ => {
                    let (optimizer, mut state, mut weights) = (adamw().build(), None, Some(x));
                    clock.time(|| {
                        let before = weights.take().expect("each step leaves weights");
                        let (after, moments) = optimizer.step(LR, before, dy.clone(), state.take());
                        (weights, state) = (Some(after), moments);
                    })
                }
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args.get(at + 1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name} N")))
    };
    let device = WgpuDevice::DefaultDevice;
    let setup = init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default());
    let info = setup.adapter.get_info();
    let clock = Clock { warm_up: option("--warm-up", 2), steps: option("--steps", 8), device };
    for name in args.iter().filter(|arg| CASES.contains(&arg.as_str())) {
        let mut row = case(name, &clock);
        row["implementation"] =
            json!(format!("Burn 0.21.0{}", if cfg!(feature = "fusion") { "" } else { " without fusion" }));
        row["case"] = json!(name);
        row["adapter"] = json!(info.name);
        row["driver"] = json!(info.driver_info);
        println!("{row}");
    }
}
