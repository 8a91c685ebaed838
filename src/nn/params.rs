//! The parameters of a model: PyTorch's `state_dict` on the outside, a few large buffers on the GPU inside.
//!
//! Weights, gradients and both AdamW moments lie in arenas (large buffers) of one layout, so that the optimizer is one
//! launch over flat memory however many tensors there are. A variable starts at a multiple of 64 floats. One variable
//! may hold several named tensors: both scan directions of a mixer are stacked, and the small per-channel vectors of
//! the scan are packed.
//!
//! Names are built as modules nest, as in candle's `vb.pp("mlp")`: inside [`Params::scope`] every name gets the scope's
//! name in front. A module keeps [`Params::path`] as the scope of its launches, so that a profile and a checkpoint
//! speak of the same module by the same name.

use std::collections::HashMap;
use std::sync::Arc;

use super::init::Init;
use super::weights::{Entry, Mismatch, Weights};
use crate::error::{Error, Result};
use crate::gpu::{Arena, Class, Gpu, Recording, View};
use crate::tape::{Grads, Var};
use crate::tensor::Tensor;

/// Named tensors of equal shape that lie one behind the other without a gap.
#[derive(Debug, Clone)]
pub struct Part {
    /// Their names, in order, relative to the current scope.
    pub names: Vec<String>,
    /// The shape that each of them has in a checkpoint.
    pub shape: Vec<usize>,
    /// The initial values of each.
    pub inits: Vec<Init>,
    /// An axis along which operators see the elements of a checkpoint's tensor in the reverse order.
    pub reversed: Option<usize>,
}

/// A running statistic of a batch norm, a buffer of the model, and the place of the latest micro-batch's own statistic.
#[derive(Debug, Clone)]
pub struct Running {
    /// The buffer.
    pub value: Tensor,
    /// What [`Recorder::observes`](crate::tape::Recorder::observes) makes a batch norm write.
    pub seen: Tensor,
}

/// A stretch of a buffer arena in which all running statistics have the same momentum.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The running statistics (n).
    pub values: Tensor,
    /// Those of the latest micro-batch (n), in the same order.
    pub seen: Tensor,
    /// Share of a micro-batch in the running statistics.
    pub momentum: f64,
}

/// Four arenas of one layout.
#[derive(Debug)]
struct Block {
    weights: Arena,
    gradients: Arena,
    first_moment: Arena,
    second_moment: Arena,
}

/// All parameters and buffers of a model.
#[derive(Debug)]
pub struct Params {
    /// No arena grows past this many bytes, the adapter's limit for one binding.
    limit: u64,
    blocks: Vec<Block>,
    entries: Vec<Entry>,
    buffer_arenas: Vec<Arena>,
    /// Arenas in the layout of the buffers' for what micro-batches see.
    seen_arenas: Vec<Arena>,
    buffers: Vec<Entry>,
    /// Momentum of each buffer that is a running statistic, by its number.
    momenta: HashMap<usize, f64>,
    /// The place of each variable's gradient, by the variable's id.
    gradients: HashMap<u64, Tensor>,
    /// The names of the open scopes, joined by dots.
    path: String,
}

/// One block of arenas as flat tensors, for the optimizer.
#[derive(Debug, Clone)]
pub struct Flat {
    /// Weights (n).
    pub weights: Tensor,
    /// Gradients (n).
    pub gradients: Tensor,
    /// First moments (n).
    pub first_moment: Tensor,
    /// Second moments (n).
    pub second_moment: Tensor,
}

impl Params {
    /// No parameters yet. Arenas will respect the limits of the adapter.
    pub fn new(g: &Gpu) -> Self {
        Self {
            limit: g.caps().max_range(),
            blocks: Vec::new(),
            entries: Vec::new(),
            buffer_arenas: Vec::new(),
            seen_arenas: Vec::new(),
            buffers: Vec::new(),
            momenta: HashMap::new(),
            gradients: HashMap::new(),
            path: String::new(),
        }
    }

    /// Runs `build` with `name.` in front of every name that it adds. Scopes nest, and `name` may have dots itself.
    pub fn scope<T>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = self.path.len();
        self.path = self.full_name(name);
        let built = build(self);
        self.path.truncate(outer);
        built
    }

    /// The name of the current scope, `blocks.0.mlp` for example: what a module hands to
    /// [`Recorder::scope`](crate::tape::Recorder::scope) when it runs.
    pub fn path(&self) -> Arc<str> {
        self.path.as_str().into()
    }

    fn full_name(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    /// One named tensor: `shape` is its shape in a checkpoint, and operators see it as `view`, which has as many
    /// elements. Like PyTorch's `register_parameter`.
    pub fn add(&mut self, name: &str, shape: &[usize], view: &[usize], init: Init) -> Result<Var> {
        let part = Part { names: vec![name.into()], shape: shape.to_vec(), inits: vec![init], reversed: None };
        self.pack(&[part], view)
    }

    /// One variable of shape `view` that holds several parts, one after the other. Each part starts at a multiple of 64
    /// floats.
    pub fn pack(&mut self, parts: &[Part], view: &[usize]) -> Result<Var> {
        let mut len = 0;
        let mut starts = Vec::new();
        for part in parts {
            starts.push(len);
            let size = part.names.len() * part.shape.iter().product::<usize>();
            len += if parts.len() > 1 { size.next_multiple_of(64) } else { size };
        }
        if len != view.iter().product::<usize>() {
            let names: Vec<_> = parts.iter().flat_map(|p| &p.names).map(|name| self.full_name(name)).collect();
            return Err(Error::argument(names.join(", "), format!("{len} elements"), format!("{view:?}")));
        }
        let (arena, weights, gradients) = self.reserve(len as u64 * 4)?;
        let at = (weights.offset() / 4) as usize;
        let var = Var::leaf(Tensor::from_view(weights, view));
        self.gradients.insert(var.id(), Tensor::from_view(gradients, view));
        for (part, start) in parts.iter().zip(starts) {
            let each = part.shape.iter().product::<usize>();
            for (i, (name, &init)) in part.names.iter().zip(&part.inits).enumerate() {
                let (name, shape, start) = (self.full_name(name), part.shape.clone(), at + start + i * each);
                let reversed = part.reversed;
                self.entries.push(Entry { name, shape, init, arena, start, var: var.id(), reversed });
            }
        }
        Ok(var)
    }

    /// A named tensor that is no parameter, such as the running mean of a batch norm: PyTorch's `register_buffer`. It
    /// is saved, loaded and averaged with the weights. It has no gradient and no moments, and the optimizer does not
    /// touch it: only the model's own launches write it.
    pub fn buffer(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        Ok(self.buffer_and_seen(name, shape, init)?.value)
    }

    /// [`Params::buffer`] for a running statistic, of which a micro-batch has the share `momentum`.
    pub fn running(&mut self, name: &str, shape: &[usize], init: Init, momentum: f64) -> Result<Running> {
        self.momenta.insert(self.buffers.len(), momentum);
        self.buffer_and_seen(name, shape, init)
    }

    fn buffer_and_seen(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Running> {
        let bytes = shape.iter().product::<usize>() as u64 * 4;
        let push = |arenas: &mut Vec<Arena>| arenas.last_mut().and_then(|arena| arena.push(bytes));
        let [value, seen] = match [push(&mut self.buffer_arenas), push(&mut self.seen_arenas)] {
            [Some(value), Some(seen)] => [value, seen],
            _ => {
                let fresh = |label, arenas: &mut Vec<Arena>| {
                    let mut arena = Arena::new(Class::Parameter, label, self.limit);
                    let view = arena.push(bytes);
                    arenas.push(arena);
                    view.ok_or(Error::Limit { what: "one buffer".into(), needed: bytes, allowed: self.limit })
                };
                [fresh("buffers", &mut self.buffer_arenas)?, fresh("statistics", &mut self.seen_arenas)?]
            }
        };
        let (arena, start) = (self.buffer_arenas.len() - 1, (value.offset() / 4) as usize);
        let name = self.full_name(name);
        self.buffers.push(Entry { name, shape: shape.to_vec(), init, arena, start, var: 0, reversed: None });
        Ok(Running { value: Tensor::from_view(value, shape), seen: Tensor::from_view(seen, shape) })
    }

    /// The running statistics as few stretches of one momentum each. Empty without batch norms.
    pub fn observed(&self) -> Result<Vec<Observed>> {
        let mut found: Vec<(usize, std::ops::Range<usize>, f64)> = Vec::new();
        for (i, entry) in self.buffers.iter().enumerate() {
            let Some(&momentum) = self.momenta.get(&i) else { continue };
            let range = entry.start..entry.start + entry.len();
            match found.last_mut() {
                // nothing lies between a buffer and the next one but what fills it up to 64 numbers
                Some((arena, before, same))
                    if *arena == entry.arena && *same == momentum && before.end.next_multiple_of(64) == range.start =>
                {
                    before.end = range.end;
                }
                _ => found.push((entry.arena, range, momentum)),
            }
        }
        let stretch = |(arena, range, momentum): (usize, std::ops::Range<usize>, f64)| {
            let of = |arenas: &[Arena]| flat(&arenas[arena]).range(range.start, &[range.len()]);
            Ok(Observed { values: of(&self.buffer_arenas)?, seen: of(&self.seen_arenas)?, momentum })
        };
        found.into_iter().map(stretch).collect()
    }

    /// The next `bytes` of the last block, or of a new one: its index, and the views of weights and gradients.
    fn reserve(&mut self, bytes: u64) -> Result<(usize, View, View)> {
        for fresh in [false, true] {
            if fresh {
                let arena = |class, label| Arena::new(class, label, self.limit);
                self.blocks.push(Block {
                    weights: arena(Class::Parameter, "weights"),
                    gradients: arena(Class::Gradient, "gradients"),
                    first_moment: arena(Class::Optimizer, "first moments"),
                    second_moment: arena(Class::Optimizer, "second moments"),
                });
            }
            if let Some(block) = self.blocks.last_mut()
                && let (Some(weights), Some(gradients)) = (block.weights.push(bytes), block.gradients.push(bytes))
            {
                block.first_moment.push(bytes);
                block.second_moment.push(bytes);
                return Ok((self.blocks.len() - 1, weights, gradients));
            }
        }
        Err(Error::Limit { what: "one parameter".into(), needed: bytes, allowed: self.limit })
    }

    /// The named parameters, in the order in which they were added.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The named buffers, in the order in which they were added.
    pub fn buffers(&self) -> &[Entry] {
        &self.buffers
    }

    /// Parameters and buffers: all that a checkpoint holds, PyTorch's `state_dict`.
    pub fn tensors(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().chain(&self.buffers)
    }

    /// The number of weights. Buffers do not count.
    pub fn count(&self) -> usize {
        self.entries.iter().map(Entry::len).sum()
    }

    /// An empty gradient table in which every parameter's gradient has its place in the arena.
    pub fn grads(&self) -> Grads {
        Grads::with_places(self.gradients.clone())
    }

    /// The arenas as flat tensors, for the optimizer.
    pub fn flat(&self) -> Vec<Flat> {
        let block = |b: &Block| Flat {
            weights: flat(&b.weights),
            gradients: flat(&b.gradients),
            first_moment: flat(&b.first_moment),
            second_moment: flat(&b.second_moment),
        };
        self.blocks.iter().map(block).collect()
    }

    /// Weights and buffers as flat tensors: what a moving average of the model follows. Two models of one architecture
    /// have the same layout.
    pub fn flat_tensors(&self) -> Vec<Tensor> {
        self.blocks.iter().map(|b| flat(&b.weights)).chain(self.buffer_arenas.iter().map(flat)).collect()
    }

    /// The gradients of every arena.
    pub fn flat_gradients(&self) -> Vec<Tensor> {
        self.blocks.iter().map(|b| flat(&b.gradients)).collect()
    }

    /// The optimizer's groups: one number for each 64 floats of arena `arena`. It is `group(entry)` where the entry has
    /// a gradient in `grads`, and 0 (frozen) where it has none.
    pub fn groups(&self, arena: usize, grads: &Grads, group: impl Fn(&Entry) -> u32) -> Vec<u32> {
        let Some(block) = self.blocks.get(arena) else { return Vec::new() };
        let mut table = vec![0; (block.weights.view().bytes() / 256) as usize];
        for entry in self.entries.iter().filter(|e| e.arena == arena && grads.has(e.var)) {
            let (first, last) = (entry.start / 64, (entry.start + entry.len()).div_ceil(64));
            table[first..last].fill(group(entry));
        }
        table
    }

    /// Draws all initial values from `seed` and uploads them. Gradients and moments get no memory, for a model that is
    /// not trained.
    pub fn draw(&self, g: &Gpu, seed: u64) -> Result<()> {
        let values = |e: &Entry| (e.name.clone(), (e.shape.clone(), e.init.values(&e.name, &e.shape, seed)));
        self.upload_tensors(g, &self.tensors().map(values).collect())
    }

    /// Draws all initial values from `seed` and uploads them. Gradients and moments become zero.
    pub fn init(&self, g: &Gpu, seed: u64) -> Result<()> {
        self.draw(g, seed)?;
        let mut r = Recording::new(g);
        for flat in self.flat() {
            for zero in [&flat.gradients, &flat.first_moment, &flat.second_moment] {
                zero.fill(&mut r, 0.0)?;
            }
        }
        r.run()
    }

    /// Overwrites parameters and buffers by name, as PyTorch's `load_state_dict(strict=True)` does: every name must be
    /// known, every tensor given, and every shape right.
    pub fn load(&self, g: &Gpu, weights: &Weights) -> Result<()> {
        self.expect_names(weights)?;
        self.upload_tensors(g, weights)
    }

    /// Overwrites the gradients by name.
    pub fn load_gradients(&self, g: &Gpu, gradients: &Weights) -> Result<()> {
        Mismatch::of(&self.entries, gradients).into_result()?;
        self.upload(g, gradients, |b| &b.gradients)
    }

    /// Whether a named parameter has a gradient in `grads`.
    pub fn has_gradient(&self, name: &str, grads: &Grads) -> bool {
        self.entries.iter().any(|e| e.name == name && grads.has(e.var))
    }

    /// Overwrites the moments by name.
    pub fn load_moments(&self, g: &Gpu, first: &Weights, second: &Weights) -> Result<()> {
        self.expect_moment(first)?;
        self.expect_moment(second)?;
        self.upload(g, first, |b| &b.first_moment)?;
        self.upload(g, second, |b| &b.second_moment)
    }

    /// Checks weights against the model without loading them: every name must be known, every tensor given, and every
    /// shape right.
    pub fn expect_names(&self, weights: &Weights) -> Result<()> {
        Mismatch::of(self.tensors(), weights).into_result()
    }

    /// Checks first or second moments without loading them, as [`Params::expect_names`] does weights.
    pub fn expect_moment(&self, moment: &Weights) -> Result<()> {
        Mismatch::of(&self.entries, moment).into_result()
    }

    fn upload_tensors(&self, g: &Gpu, weights: &Weights) -> Result<()> {
        self.upload(g, weights, |b| &b.weights)?;
        upload(g, weights, self.buffer_arenas.iter(), &self.buffers)
    }

    fn upload(&self, g: &Gpu, weights: &Weights, which: impl Fn(&Block) -> &Arena) -> Result<()> {
        upload(g, weights, self.blocks.iter().map(which), &self.entries)
    }

    async fn download(&self, g: &Gpu, which: impl Fn(&Block) -> &Arena) -> Result<Weights> {
        download(g, self.blocks.iter().map(which), &self.entries).await
    }

    /// Weights and buffers by name.
    pub async fn weights(&self, g: &Gpu) -> Result<Weights> {
        let mut found = self.download(g, |b| &b.weights).await?;
        found.extend(download(g, self.buffer_arenas.iter(), &self.buffers).await?);
        Ok(found)
    }

    /// The first parameter or buffer with a value that is not finite, and that value.
    pub async fn find_not_finite(&self, g: &Gpu) -> Result<Option<(String, f32)>> {
        let weights = self.weights(g).await?;
        let bad = |name: &str| weights.get(name).and_then(|(_, values)| values.iter().find(|v| !v.is_finite()));
        Ok(self.tensors().find_map(|e| Some((e.name.clone(), *bad(&e.name)?))))
    }

    /// The gradients by name, of the last step that ran. A parameter without gradient has zeros.
    pub async fn gradients(&self, g: &Gpu) -> Result<Weights> {
        self.download(g, |b| &b.gradients).await
    }

    /// Both AdamW moments by name: PyTorch's `exp_avg` and `exp_avg_sq`.
    pub async fn moments(&self, g: &Gpu) -> Result<(Weights, Weights)> {
        Ok((self.download(g, |b| &b.first_moment).await?, self.download(g, |b| &b.second_moment).await?))
    }
}

/// A whole arena as one tensor (n).
fn flat(arena: &Arena) -> Tensor {
    Tensor::from_view(arena.view().clone(), &[(arena.view().bytes() / 4) as usize])
}

/// Overwrites arenas with named tensors. What lies between the tensors becomes zero.
fn upload<'a>(g: &Gpu, weights: &Weights, arenas: impl Iterator<Item = &'a Arena>, entries: &[Entry]) -> Result<()> {
    for (at, arena) in arenas.enumerate() {
        let mut host = vec![0.0f32; (arena.view().bytes() / 4) as usize];
        for entry in entries.iter().filter(|e| e.arena == at) {
            if let Some((_, values)) = weights.get(&entry.name) {
                host[entry.start..entry.start + entry.len()].copy_from_slice(&entry.turned(values));
            }
        }
        g.write(arena.view(), bytemuck::cast_slice(&host))?;
    }
    Ok(())
}

/// Reads arenas back as named tensors.
async fn download<'a>(g: &Gpu, arenas: impl Iterator<Item = &'a Arena>, entries: &[Entry]) -> Result<Weights> {
    let mut found = Weights::new();
    for (at, arena) in arenas.enumerate() {
        let host: Vec<f32> = bytemuck::pod_collect_to_vec(&g.read(arena.view())?.await?);
        for entry in entries.iter().filter(|e| e.arena == at) {
            let values = entry.turned(&host[entry.start..entry.start + entry.len()]).into_owned();
            found.insert(entry.name.clone(), (entry.shape.clone(), values));
        }
    }
    Ok(found)
}
