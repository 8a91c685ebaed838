//! Attention on cooperative matrices (tensor cores): its kernels, and when they are taken. Maths:
//! `shaders/attention_coop.wgsl`.

use super::kernels::{Attention, BACKWARD_BINDS, FORWARD_BINDS, MAX_HEAD, Route, Step, pairs};
use crate::gpu::{Caps, Const, Kernel, LaunchArgs, Needs, Work, wgsl};

const CONSTS: &[Const] = &[
    Const::within("DH", 1, MAX_HEAD as u32, &[12, 1, 16, 48, 64, 128]),
    Const::of("LANES", &[32, 8, 16, 64]),
    Const::flag("HALF"),
];
const SRC16: &str = wgsl!("attention_coop", "grid", "half", "element", "attention", "coop16", "attention16");
const SRC8: &str = wgsl!("attention_coop", "grid", "half", "element", "attention", "coop8", "attention8");

const fn forward(name: &'static str, source: &'static str) -> Kernel {
    let kernel = Kernel::new::<Attention>(name, source, FORWARD_BINDS).consts(CONSTS).needs(Needs::COOP).rounds();
    kernel.least(|x| pairs(x, 2, 2, 4))
}
const fn backward(name: &'static str, source: &'static str, work: fn(&LaunchArgs<'_>) -> Work) -> Kernel {
    Kernel::new::<Attention>(name, source, BACKWARD_BINDS).consts(CONSTS).needs(Needs::COOP).rounds().least(work)
}
pub(super) const FORWARD16: Kernel = forward("attention_coop.forward16", SRC16);
pub(super) const DQ16: Kernel = backward("attention_coop.dq16", SRC16, |x| pairs(x, 3, 2, 6));
pub(super) const DKV16: Kernel = backward("attention_coop.dkv16", SRC16, |x| pairs(x, 2, 4, 8));
pub(super) const FORWARD8: Kernel = forward("attention_coop.forward8", SRC8);
pub(super) const DQ8: Kernel = backward("attention_coop.dq8", SRC8, |x| pairs(x, 3, 2, 6));
pub(super) const DKV8: Kernel = backward("attention_coop.dkv8", SRC8, |x| pairs(x, 2, 4, 8));

/// The kernels on cooperative matrices for heads of size `dh`. None where the adapter has no cooperative matrices, and
/// on a CPU, where they are slow.
pub(super) fn path(caps: &Caps, dh: usize) -> Option<Route> {
    if !caps.tiers.coop || caps.software {
        return None;
    }
    let [forward, dq, dkv] = if caps.fragment == 8 { [&FORWARD8, &DQ8, &DKV8] } else { [&FORWARD16, &DQ16, &DKV16] }
        .map(|kernel| {
            let consts = vec![("DH", dh as u32), ("LANES", caps.coop_lanes)];
            Step { kernel, consts, rows: 4 * caps.fragment }
        });
    Some(Route { forward, dq, dkv, rounds: true })
}
