//! The parameters of a model: arenas on the GPU, names and shapes of the checkpoint on the outside.
//!
//! Weights, gradients and both AdamW moments lie in arenas of one layout, so that the optimizer is one launch over flat
//! memory. A variable starts at a multiple of 64 floats. Several named tensors may make up one variable: both directions
//! of a mixer are stacked, the small per-channel vectors of the scan packed.

use std::collections::HashMap;

use super::init::Init;
use super::weights::{Entry, Mismatch, Weights};
use crate::error::{Error, Result};
use crate::gpu::{Arena, Class, Gpu};
use crate::tape::{Grads, Var};
use crate::tensor::Tensor;

/// Tensors of equal shape that lie one behind the other without a gap.
#[derive(Debug, Clone)]
pub struct Part {
    /// Official names, in order.
    pub names: Vec<String>,
    /// Official shape of each.
    pub shape: Vec<usize>,
    /// Initial values of each.
    pub inits: Vec<Init>,
}

/// Four arenas of one layout.
#[derive(Debug)]
struct Block {
    weights: Arena,
    gradients: Arena,
    first_moment: Arena,
    second_moment: Arena,
}

/// All parameters of a model.
#[derive(Debug)]
pub struct Params {
    limit: u64,
    blocks: Vec<Block>,
    entries: Vec<Entry>,
    home: HashMap<u64, Tensor>,
}

/// One arena as flat tensors, for the optimizer.
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
    /// No parameters yet; arenas will respect the limits of the adapter.
    pub fn new(g: &Gpu) -> Self {
        Self { limit: g.caps().max_range(), blocks: Vec::new(), entries: Vec::new(), home: HashMap::new() }
    }

    /// One tensor under its official name and shape, seen by operators as `view` (same number of elements).
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], view: &[usize], init: Init) -> Result<Var> {
        let part = Part { names: vec![name.into()], shape: shape.to_vec(), inits: vec![init] };
        self.pack(&[part], view)
    }

    /// Parts one after the other, each from a multiple of 64 floats on, as one variable of shape `view`.
    pub fn pack(&mut self, parts: &[Part], view: &[usize]) -> Result<Var> {
        let mut len = 0;
        let mut starts = Vec::new();
        for part in parts {
            starts.push(len);
            let size = part.names.len() * part.shape.iter().product::<usize>();
            len += if parts.len() > 1 { size.next_multiple_of(64) } else { size };
        }
        if len != view.iter().product::<usize>() {
            let names: Vec<_> = parts.iter().flat_map(|p| &p.names).cloned().collect();
            return Err(Error::argument(names.join(", "), format!("{len} elements"), format!("{view:?}")));
        }
        let (arena, weights, gradients) = self.reserve(len as u64 * 4)?;
        let at = (weights.offset() / 4) as usize;
        let var = Var::leaf(Tensor::from_view(weights, view));
        self.home.insert(var.id(), Tensor::from_view(gradients, view));
        for (part, start) in parts.iter().zip(starts) {
            let each = part.shape.iter().product::<usize>();
            for (i, (name, &init)) in part.names.iter().zip(&part.inits).enumerate() {
                let (name, shape, start) = (name.clone(), part.shape.clone(), at + start + i * each);
                self.entries.push(Entry { name, shape, init, arena, start, var: var.id() });
            }
        }
        Ok(var)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(usize, crate::gpu::View, crate::gpu::View)> {
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

    /// The named tensors.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of weights.
    pub fn count(&self) -> usize {
        self.entries.iter().map(Entry::len).sum()
    }

    /// An empty gradient table in which every parameter's gradient has its place in the arena.
    pub fn grads(&self) -> Grads {
        Grads::at_home(self.home.clone())
    }

    /// The arenas as flat tensors.
    pub fn flat(&self) -> Vec<Flat> {
        let flat = |arena: &Arena| Tensor::from_view(arena.view().clone(), &[(arena.view().bytes() / 4) as usize]);
        let block = |b: &Block| Flat {
            weights: flat(&b.weights),
            gradients: flat(&b.gradients),
            first_moment: flat(&b.first_moment),
            second_moment: flat(&b.second_moment),
        };
        self.blocks.iter().map(block).collect()
    }

    /// The gradients of every arena.
    pub fn flat_gradients(&self) -> Vec<Tensor> {
        self.flat().into_iter().map(|f| f.gradients).collect()
    }

    /// One number per 64-element block of arena `arena`: `group(entry)` where the entry has a gradient in `grads`, 0
    /// (frozen) where it has none.
    pub fn groups(&self, arena: usize, grads: &Grads, group: impl Fn(&Entry) -> u32) -> Vec<u32> {
        let Some(block) = self.blocks.get(arena) else { return Vec::new() };
        let mut table = vec![0; (block.weights.view().bytes() / 256) as usize];
        for entry in self.entries.iter().filter(|e| e.arena == arena && grads.has(e.var)) {
            let (first, last) = (entry.start / 64, (entry.start + entry.len()).div_ceil(64));
            table[first..last].fill(group(entry));
        }
        table
    }

    /// Draws all initial values and uploads them; gradients and moments become zero.
    pub fn init(&self, g: &Gpu, seed: u64) -> Result<()> {
        let draw = |e: &Entry| (e.name.clone(), (e.shape.clone(), e.init.values(&e.name, &e.shape, seed)));
        self.upload(g, &self.entries.iter().map(draw).collect(), |b| &b.weights)?;
        for flat in self.flat() {
            for zero in [&flat.gradients, &flat.first_moment, &flat.second_moment] {
                zero.fill(g, 0.0)?;
            }
        }
        g.flush()
    }

    /// Overwrites the weights by name: every name must be known, every parameter given, every shape right.
    pub fn load(&self, g: &Gpu, weights: &Weights) -> Result<()> {
        self.expect_names(weights)?;
        self.upload(g, weights, |b| &b.weights)
    }

    /// Overwrites the gradients by name.
    pub fn load_gradients(&self, g: &Gpu, gradients: &Weights) -> Result<()> {
        self.expect_names(gradients)?;
        self.upload(g, gradients, |b| &b.gradients)
    }

    /// Whether a named parameter has a gradient in `grads`.
    pub fn has_gradient(&self, name: &str, grads: &Grads) -> bool {
        self.entries.iter().any(|e| e.name == name && grads.has(e.var))
    }

    /// Overwrites the moments by name.
    pub fn load_moments(&self, g: &Gpu, first: &Weights, second: &Weights) -> Result<()> {
        self.expect_names(first)?;
        self.expect_names(second)?;
        self.upload(g, first, |b| &b.first_moment)?;
        self.upload(g, second, |b| &b.second_moment)
    }

    /// Checks that every name is known, every parameter given, and every shape right.
    pub fn expect_names(&self, weights: &Weights) -> Result<()> {
        Mismatch::of(self.entries(), weights).into_result()
    }

    fn upload(&self, g: &Gpu, weights: &Weights, which: impl Fn(&Block) -> &Arena) -> Result<()> {
        for (at, block) in self.blocks.iter().enumerate() {
            let view = which(block).view();
            let mut host = vec![0.0f32; (view.bytes() / 4) as usize];
            for entry in self.entries.iter().filter(|e| e.arena == at) {
                if let Some((_, values)) = weights.get(&entry.name) {
                    host[entry.start..entry.start + entry.len()].copy_from_slice(values);
                }
            }
            g.write(view, bytemuck::cast_slice(&host))?;
        }
        Ok(())
    }

    async fn download(&self, g: &Gpu, which: impl Fn(&Block) -> &Arena) -> Result<Weights> {
        let mut found = Weights::new();
        for (at, block) in self.blocks.iter().enumerate() {
            let host: Vec<f32> = bytemuck::pod_collect_to_vec(&g.read(which(block).view())?.await?);
            for entry in self.entries.iter().filter(|e| e.arena == at) {
                let values = host[entry.start..entry.start + entry.len()].to_vec();
                found.insert(entry.name.clone(), (entry.shape.clone(), values));
            }
        }
        Ok(found)
    }

    /// The weights by name.
    pub async fn weights(&self, g: &Gpu) -> Result<Weights> {
        self.download(g, |b| &b.weights).await
    }

    /// The first parameter with a value that is not finite, and that value.
    pub async fn find_not_finite(&self, g: &Gpu) -> Result<Option<(String, f32)>> {
        let weights = self.weights(g).await?;
        let bad = |name: &str| weights.get(name).and_then(|(_, values)| values.iter().find(|v| !v.is_finite()));
        Ok(self.entries.iter().find_map(|e| Some((e.name.clone(), *bad(&e.name)?))))
    }

    /// The gradients by name, of the last step that ran; zero where there is none.
    pub async fn gradients(&self, g: &Gpu) -> Result<Weights> {
        self.download(g, |b| &b.gradients).await
    }

    /// Both AdamW moments by name.
    pub async fn moments(&self, g: &Gpu) -> Result<(Weights, Weights)> {
        Ok((self.download(g, |b| &b.first_moment).await?, self.download(g, |b| &b.second_moment).await?))
    }
}
