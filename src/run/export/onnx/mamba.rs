//! A Mamba mixer as nodes of ONNX. The recurrence is one `Scan` over the tokens for both directions, whose body has
//! three nodes; everything else is computed for all tokens at once.

use super::graph::{Attribute, Graph, Value, info_of_any_shape, node};
use super::proto::GraphProto;
use crate::error::Result;
use crate::models::{Config, Directions};

/// What a direction brings to the scan, and what is added to its result.
struct Branch {
    /// exp(δ·A) (B, L, E, N)
    decay: Value,
    /// δ·u·B (B, L, E, N)
    gain: Value,
    /// C (B, L, N, 1)
    read: Value,
    /// D·u (B, L, E)
    skip: Value,
}

/// x (B, L, D) → (B, L, D): `MambaMixer::forward`, of one direction or of two that run against each other.
pub fn mixer(graph: &mut Graph<'_>, config: &Config, name: &str, x: &str) -> Result<Value> {
    let (d, e) = (config.width, config.width * config.expand);
    let xz = graph.linear(x, &format!("{name}.in_proj"), (d, 2 * e), false)?;
    let [x, z] = graph.split(&xz, [e, e]);
    let channels = graph.transpose(&x, &[0, 2, 1]); // (B, E, L)
    let suffixes: &[&str] = if config.directions == Directions::One { &[""] } else { &["", "_b"] };
    let branches = suffixes.iter().map(|suffix| branch(graph, config, name, suffix, &channels));
    let branches = branches.collect::<Result<Vec<Branch>>>()?;
    graph.enter(name);
    let mut y: Option<Value> = None;
    for (scanned, branch) in scan(graph, config, &x, &branches).iter().zip(&branches) {
        let out = graph.add(scanned, &branch.skip);
        y = Some(match y {
            Some(before) => graph.add(&before, &out),
            None => out,
        });
    }
    let mut y = y.unwrap_or_default(); // there is a direction
    if config.directions == Directions::Mean {
        y = graph.scale(&y, 0.5);
    }
    let gate = graph.silu(&z);
    let y = graph.mul(&y, &gate);
    graph.linear(&y, &format!("{name}.out_proj"), (e, d), false)
}

/// Convolution, projections and step sizes of the direction whose tensors have this suffix; `channels` is x (B, E, L).
/// The second direction runs from the last token to the first, so its convolution looks ahead: its taps are turned
/// round, and the tokens stay where they are.
fn branch(graph: &mut Graph<'_>, config: &Config, name: &str, suffix: &str, channels: &str) -> Result<Branch> {
    let (e, n, k) = (config.width * config.expand, config.states, config.conv);
    let rank = config.width.div_ceil(16);
    let backward = !suffix.is_empty();
    let conv = format!("{name}.conv1d{suffix}");
    graph.enter(&conv);
    let mut taps = graph.weight(&format!("{conv}.weight"), &[e, 1, k])?;
    let bias = graph.weight(&format!("{conv}.bias"), &[e])?;
    let past = k as i64 - 1;
    let pads = if backward { vec![0, past] } else { vec![past, 0] };
    if backward {
        let turned: Vec<i64> = (0..k as i64).rev().collect();
        taps = graph.gather(&taps, 2, &turned);
    }
    let attributes = vec![("group", Attribute::Int(e as i64)), ("pads", Attribute::Ints(pads))];
    let u = graph.node("Conv", &[channels, &taps, &bias], attributes);
    let u = graph.silu(&u);
    let u = graph.transpose(&u, &[0, 2, 1]); // (B, L, E)

    let xdbl = graph.linear(&u, &format!("{name}.x_proj{suffix}"), (e, rank + 2 * n), false)?;
    let [dt, write, read] = graph.split(&xdbl, [rank, n, n]);
    let delta = graph.linear(&dt, &format!("{name}.dt_proj{suffix}"), (rank, e), true)?;
    graph.enter(name);
    let delta = graph.node("Softplus", &[&delta], vec![]);

    let a_log = graph.weight(&format!("{name}.A{suffix}_log"), &[e, n])?;
    let a = graph.node("Exp", &[&a_log], vec![]);
    let a = graph.node("Neg", &[&a], vec![]);
    let steps = graph.unsqueeze(&delta, 3); // (B, L, E, 1)
    let exponent = graph.mul(&steps, &a);
    let decay = graph.node("Exp", &[&exponent], vec![]);
    let scaled = graph.mul(&delta, &u);
    let scaled = graph.unsqueeze(&scaled, 3);
    let write = graph.unsqueeze(&write, 2); // (B, L, 1, N)
    let gain = graph.mul(&scaled, &write);
    let read = graph.unsqueeze(&read, 3);
    let d = graph.weight(&format!("{name}.D{suffix}"), &[e])?;
    let skip = graph.mul(&u, &d);
    Ok(Branch { decay, gain, read, skip })
}

/// h ← decay·h + gain, Σₙ C·h for each token: (B, L, E) of each direction, the tokens in their own order.
fn scan(graph: &mut Graph<'_>, config: &Config, like: &str, branches: &[Branch]) -> Vec<Value> {
    let (e, n) = (config.width * config.expand, config.states);
    let shape = graph.shape_like(like, &[e as i64, n as i64]);
    let start = graph.node("ConstantOfShape", &[&shape], vec![]); // zeros of f32
    let mut inputs: Vec<&str> = branches.iter().map(|_| start.as_str()).collect();
    inputs.extend(branches.iter().flat_map(|branch| [&*branch.decay, &*branch.gain, &*branch.read]));
    let count = branches.len();
    // the second direction reads from the last token on, and puts each result in front of those before
    let way = |each: usize| -> Vec<i64> { (0..count * each).map(|i| (i / each == 1).into()).collect() };
    let attributes = vec![
        ("body", Attribute::Graph(body(count))),
        ("num_scan_inputs", Attribute::Int(3 * count as i64)),
        ("scan_input_axes", Attribute::Ints(vec![1; 3 * count])),
        ("scan_input_directions", Attribute::Ints(way(3))),
        ("scan_output_axes", Attribute::Ints(vec![1; count])),
        ("scan_output_directions", Attribute::Ints(way(1))),
    ];
    let results: Vec<Value> = match count {
        1 => graph.node_of::<2>("Scan", &inputs, attributes)[1..].to_vec(),
        _ => graph.node_of::<4>("Scan", &inputs, attributes)[2..].to_vec(),
    };
    results.iter().map(|y| graph.reshape(y, &[0, 0, e as i64])).collect() // (B, L, E, 1) → (B, L, E)
}

/// One step of `count` directions: states h (B, E, N), then decay, gain (B, E, N) and C (B, N, 1) of each, to the next
/// states and the results (B, E, 1).
fn body(count: usize) -> GraphProto {
    let names = |what: &str| -> Vec<String> { (0..count).map(|way| format!("{what}_{way}")).collect() };
    let (h, next, y) = (names("h"), names("next"), names("y"));
    let mut inputs = h.clone();
    let mut nodes = Vec::new();
    for way in 0..count {
        let [decay, gain, read, kept] = ["decay", "gain", "read", "kept"].map(|what| format!("{what}_{way}"));
        let mut step = |op: &str, from: [&str; 2], to: &String| {
            nodes.push(node(to.clone(), op, &from, std::slice::from_ref(to), vec![]));
        };
        step("Mul", [&decay, &h[way]], &kept);
        step("Add", [&kept, &gain], &next[way]);
        step("MatMul", [&next[way], &read], &y[way]);
        inputs.extend([decay, gain, read]);
    }
    let infos = |names: &[String]| names.iter().map(|name| info_of_any_shape(name)).collect::<Vec<_>>();
    GraphProto {
        node: nodes,
        name: "step".into(),
        initializer: vec![],
        input: infos(&inputs),
        output: [infos(&next), infos(&y)].concat(),
    }
}
