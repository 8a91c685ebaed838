//! The networks as nodes of ONNX, layer by layer as their backbones in `models` compute them.

use super::graph::{Attribute, Graph, Value};
use super::mamba::mixer;
use crate::error::Result;
use crate::models::{Config, Directions, Family, Order, Pool};
use crate::ops::registers::Places;

/// Epsilon of the transformer blocks between Mamba layers.
const BLOCK_EPS: f32 = 1e-5;

/// What a graph gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Scores of classes (B, K).
    Scores {
        /// Classes K.
        classes: usize,
    },
    /// The features that the head of a classifier reads (B, D), without a head.
    Pooled,
    /// The mean of the patch tokens (B, D), and the tokens (B, L, D), as pretraining sees them.
    Tokens,
}

/// What came out: the values that are outputs.
pub struct GraphOutputs {
    /// Scores or features (B, N).
    pub rows: Value,
    /// Numbers N of a row.
    pub width: usize,
    /// Tokens (B, L, D) in raster order, where they are wanted.
    pub tokens: Option<Value>,
}

/// Adds the whole network, from normalized images (B, 3, H, W) on.
///
/// # Errors
/// A tensor that is missing or has another shape.
pub fn network(graph: &mut Graph<'_>, config: &Config, images: &str, wanted: Wanted) -> Result<GraphOutputs> {
    let (len, count) = (config.tokens(), config.registers);
    let with_prefix = count > 0 && (wanted != Wanted::Tokens || config.family.prefix_in_pretraining);
    let mut x = embedded(graph, config, images)?;
    if with_prefix {
        x = with_prefix_tokens(graph, config, &x)?;
    }
    // a ViT that averages normalizes the mean, not the tokens
    let norm_of_mean = config.family == Family::VIT && config.pool == Pool::Average && wanted != Wanted::Tokens;
    let sequence = len + if with_prefix { count } else { 0 };
    let causal = (config.directions == Directions::One).then(|| in_order(graph, sequence));
    x = match config.family == Family::VIT {
        true => transformer(graph, config, &x, causal.as_deref(), norm_of_mean)?,
        false => layers(graph, config, &x, causal.as_deref())?,
    };
    let places = (config.family.places)(len, count);
    let patches = |graph: &mut Graph<'_>, x: &str| match with_prefix {
        true => graph.gather(x, 1, &apart(len, places).0),
        false => x.to_owned(),
    };
    if wanted == Wanted::Tokens {
        graph.enter("tokens");
        let mut tokens = patches(graph, &x);
        if config.order == Order::Columns {
            let ranks = config.order.ranks((config.grid(), config.grid_columns()));
            tokens = graph.gather(&tokens, 1, &ranks.iter().map(|&rank| i64::from(rank)).collect::<Vec<_>>());
        }
        let rows = graph.mean(&tokens, 1, false);
        return Ok(GraphOutputs { rows, width: config.width, tokens: Some(tokens) });
    }
    graph.enter("pool");
    let pooled = match config.pool {
        Pool::Average => {
            let tokens = patches(graph, &x);
            let mean = graph.mean(&tokens, 1, false);
            if norm_of_mean { graph.layer_norm(&mean, "fc_norm", config.width, config.eps())? } else { mean }
        }
        Pool::Token | Pool::Registers => {
            let prefix = graph.gather(&x, 1, &apart(len, places).1); // (B, n, D)
            neck(graph, config, &prefix)?
        }
    };
    let Wanted::Scores { classes } = wanted else {
        return Ok(GraphOutputs { rows: pooled, width: config.features(), tokens: None });
    };
    let scores = graph.linear(&pooled, config.family.head, (config.features(), classes), true)?;
    Ok(GraphOutputs { rows: scores, width: classes, tokens: None })
}

/// Images (B, 3, H, W) → embedded patches with their positions (B, L, D), in scan order.
fn embedded(graph: &mut Graph<'_>, config: &Config, images: &str) -> Result<Value> {
    let (d, p, len, count) = (config.width, config.patch_size, config.tokens(), config.registers);
    graph.enter("patch_embed");
    let weight = graph.weight("patch_embed.proj.weight", &[d, 3, p, p])?;
    let bias = graph.weight("patch_embed.proj.bias", &[d])?;
    let strides = vec![("strides", Attribute::Ints(vec![p as i64; 2]))];
    let maps = graph.node("Conv", &[images, &weight, &bias], strides); // (B, D, h, w)
    let maps = graph.reshape(&maps, &[0, d as i64, len as i64]);
    let x = graph.transpose(&maps, &[0, 2, 1]);
    let own_rows = config.family.separate_positions || count == 0;
    let pos = graph.weight("pos_embed", &[1, if own_rows { len } else { len + count }, d])?;
    let pos = match own_rows {
        true => pos,
        false => graph.gather(&pos, 1, &apart(len, (config.family.places)(len, count)).0),
    };
    let x = graph.add(&x, &pos);
    Ok(match config.order {
        Order::Columns => graph.gather(&x, 1, &config.scan().iter().map(|&i| i64::from(i)).collect::<Vec<_>>()),
        Order::Rows => x,
    })
}

/// Patch tokens (B, L, D) → the same with prefix tokens and their positions among them (B, L+n, D).
fn with_prefix_tokens(graph: &mut Graph<'_>, config: &Config, x: &str) -> Result<Value> {
    let (d, len, n) = (config.width, config.tokens(), config.registers);
    let places = (config.family.places)(len, n);
    let tokens = graph.weight("cls_token", &[1, n, d])?;
    let pos = match config.family.separate_positions {
        true => graph.weight("pos_embed_cls", &[1, n, d])?,
        false => {
            let pos = graph.weight("pos_embed", &[1, len + n, d])?;
            graph.gather(&pos, 1, &apart(len, places).1)
        }
    };
    let prefix = graph.add(&tokens, &pos);
    let shape = graph.shape_like(x, &[n as i64, d as i64]);
    let prefix = graph.node("Expand", &[&prefix, &shape], vec![]);
    let both = graph.concat(&[x, &prefix], 1);
    Ok(graph.gather(&both, 1, &together(len, places)))
}

/// The places of patches and of prefix tokens in a sequence of `len` patches with prefix tokens.
fn apart(len: usize, places: Places) -> (Vec<i64>, Vec<i64>) {
    let prefix: Vec<i64> = places.iter().map(|at| at as i64).collect();
    let patches = (0..(len + places.count) as i64).filter(|at| !prefix.contains(at)).collect();
    (patches, prefix)
}

/// For each place of a sequence, its row in the patches with the prefix tokens behind them: the inverse of [`apart`].
fn together(len: usize, places: Places) -> Vec<i64> {
    let (patches, prefix) = apart(len, places);
    let mut rows = vec![0; len + places.count];
    patches.iter().chain(&prefix).zip(0..).for_each(|(&at, row)| rows[at as usize] = row);
    rows
}

/// What the head reads of prefix tokens (B, n, D): all of them side by side, through the neck if there is one.
fn neck(graph: &mut Graph<'_>, config: &Config, prefix: &str) -> Result<Value> {
    let (d, r) = (config.width, config.cls_reduce);
    if config.pool != Pool::Registers || r <= 1 {
        return Ok(graph.reshape(prefix, &[0, -1]));
    }
    let narrow = graph.linear(prefix, "neck", (d, d / r), false)?;
    let flat = graph.reshape(&narrow, &[0, -1]);
    norm(graph, config, &flat, "norm_neck", config.features())
}

/// The norm around Mamba layers.
fn norm(graph: &mut Graph<'_>, config: &Config, x: &str, name: &str, width: usize) -> Result<Value> {
    match config.rms_norm {
        true => graph.rms_norm(x, name, width, config.eps()),
        false => graph.layer_norm(x, name, width, config.eps()),
    }
}

/// What is added to the scores of attention so that no token sees those behind it: (L, L), 0 or −∞.
fn in_order(graph: &mut Graph<'_>, len: usize) -> Value {
    let hidden = |i: usize| if i % len > i / len { f32::NEG_INFINITY } else { 0.0 };
    graph.floats(&[len, len], &(0..len * len).map(hidden).collect::<Vec<_>>())
}

/// The blocks of a ViT, and the norm behind them unless the mean is normalized.
fn transformer(
    graph: &mut Graph<'_>, config: &Config, x: &str, causal: Option<&str>, norm_of_mean: bool,
) -> Result<Value> {
    let mut x = x.to_owned();
    for i in 0..config.pattern.len() {
        x = block(graph, config, &x, (&format!("blocks.{i}"), config.eps()), causal)?;
    }
    if norm_of_mean { Ok(x) } else { graph.layer_norm(&x, "norm", config.width, config.eps()) }
}

/// Mamba layers and transformer blocks in any order, and the norm behind them: two streams, as in
/// `models::backbones::layers`.
fn layers(graph: &mut Graph<'_>, config: &Config, x: &str, causal: Option<&str>) -> Result<Value> {
    let (mut hidden, mut residual) = (x.to_owned(), None::<Value>);
    let (mut mambas, mut blocks) = (0, 0);
    for letter in config.pattern.chars() {
        if letter == 'M' {
            let name = format!("layers.{mambas}");
            graph.enter(&name);
            let sum = match &residual {
                Some(residual) => graph.add(residual, &hidden),
                None => hidden,
            };
            let normed = norm(graph, config, &sum, &format!("{name}.norm"), config.width)?;
            hidden = mixer(graph, config, &format!("{name}.mixer"), &normed)?;
            residual = Some(sum);
            mambas += 1;
        } else {
            let mixed = block(graph, config, &hidden, (&format!("blocks.{blocks}"), BLOCK_EPS), causal)?;
            hidden = if config.extra_residual { graph.add(&hidden, &mixed) } else { mixed };
            blocks += 1;
        }
    }
    let sum = match &residual {
        Some(residual) => graph.add(residual, &hidden),
        None => hidden,
    };
    norm(graph, config, &sum, "norm_f", config.width)
}

/// y = x + MHSA(LN₁ x); y + MLP(LN₂ y): timm's `Block`.
fn block(
    graph: &mut Graph<'_>, config: &Config, x: &str, (name, eps): (&str, f32), causal: Option<&str>,
) -> Result<Value> {
    let (d, hidden) = (config.width, config.mlp_hidden());
    let y = graph.layer_norm(x, &format!("{name}.norm1"), d, eps)?;
    let y = attention(graph, config, &y, &format!("{name}.attn"), causal)?;
    let x = graph.add(x, &y);
    let y = graph.layer_norm(&x, &format!("{name}.norm2"), d, eps)?;
    let y = graph.linear(&y, &format!("{name}.mlp.fc1"), (d, hidden), true)?;
    let y = graph.gelu(&y);
    let y = graph.linear(&y, &format!("{name}.mlp.fc2"), (hidden, d), true)?;
    Ok(graph.add(&x, &y))
}

/// timm's `Attention`.
fn attention(graph: &mut Graph<'_>, config: &Config, x: &str, name: &str, causal: Option<&str>) -> Result<Value> {
    let (d, heads) = (config.width, config.heads);
    let each = d / heads.max(1);
    let qkv = graph.linear(x, &format!("{name}.qkv"), (d, 3 * d), config.qkv_bias)?;
    graph.enter(name);
    let [q, k, v] = graph.split(&qkv, [d; 3]);
    let mut apart = |x: &str, order: &[i64]| {
        let x = graph.reshape(x, &[0, 0, heads as i64, each as i64]);
        graph.transpose(&x, order)
    };
    let q = apart(&q, &[0, 2, 1, 3]); // (B, H, L, D/H)
    let k = apart(&k, &[0, 2, 3, 1]); // (B, H, D/H, L)
    let v = apart(&v, &[0, 2, 1, 3]);
    let q = graph.scale(&q, (each as f32).powf(-0.5));
    let mut scores = graph.matmul(&q, &k);
    if let Some(mask) = causal {
        scores = graph.add(&scores, mask);
    }
    let weights = graph.node("Softmax", &[&scores], vec![("axis", Attribute::Int(-1))]);
    let y = graph.matmul(&weights, &v);
    let y = graph.transpose(&y, &[0, 2, 1, 3]);
    let y = graph.reshape(&y, &[0, 0, d as i64]);
    graph.linear(&y, &format!("{name}.proj"), (d, d), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_tokens_come_out_where_they_went_in() {
        for places in [Places::front(), Places::middle(5), Places::even(10, 3), Places::even(7, 0)] {
            let len = if places.count == 3 { 10 } else { 7 };
            let (patches, prefix) = apart(len, places);
            let both: Vec<i64> = (0..(len + places.count) as i64).collect();
            let sequence: Vec<i64> = together(len, places).iter().map(|&row| both[row as usize]).collect();
            assert!(patches.iter().zip(0..).all(|(&at, patch)| sequence[at as usize] == patch));
            assert!(prefix.iter().zip(len as i64..).all(|(&at, token)| sequence[at as usize] == token));
        }
    }
}
