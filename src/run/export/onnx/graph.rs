//! A graph of ONNX as it grows: nodes in the order in which they are added, weights under their own names.

use std::collections::BTreeSet;

use half::f16;

use super::proto::{
    AttributeProto, AttributeType, DataType, DimensionProto, Extent, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::error::{Error, Result};
use crate::nn::Weights;

/// A value of the graph: the name of a tensor.
pub type Value = String;

/// An attribute of a node.
#[derive(Debug, Clone)]
pub enum Attribute {
    Float(f32),
    Int(i64),
    Ints(Vec<i64>),
    Graph(GraphProto),
}

/// A graph in the making.
#[derive(Debug)]
pub struct Graph<'a> {
    weights: &'a Weights,
    /// Whether weights are stored in f16 and become f32 where they are read.
    half: bool,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Weights that are in the graph already.
    taken: BTreeSet<String>,
    /// The module whose nodes are added, for their names.
    scope: String,
}

impl<'a> Graph<'a> {
    pub fn new(weights: &'a Weights, half: bool) -> Self {
        let (nodes, initializers, taken) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { weights, half, nodes, initializers, taken, scope: String::new() }
    }

    /// Names the nodes that follow after a module.
    pub fn enter(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Weights that no node reads.
    pub fn left_out(&self) -> Vec<&'a str> {
        self.weights.keys().map(String::as_str).filter(|name| !self.taken.contains(*name)).collect()
    }

    /// Adds a node with one output.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<(&str, Attribute)>) -> Value {
        let [output] = self.node_of(op, inputs, attributes);
        output
    }

    /// Adds a node with N outputs.
    pub fn node_of<const N: usize>(
        &mut self, op: &str, inputs: &[&str], attributes: Vec<(&str, Attribute)>,
    ) -> [Value; N] {
        let name = format!("{}/{op}_{}", self.scope, self.nodes.len());
        let outputs = std::array::from_fn(|i| if N == 1 { name.clone() } else { format!("{name}.{i}") });
        self.nodes.push(node(name, op, inputs, &outputs, attributes));
        outputs
    }

    /// A weight of the checkpoint, under its own name and of this shape.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        let missing =
            || Error::argument("tensors of the checkpoint", format!("no {name}"), format!("{name}, {shape:?}"));
        let (found, values) = self.weights.get(name).ok_or_else(missing)?;
        if found != shape {
            return Err(Error::argument(format!("the shape of {name}"), format!("{found:?}"), format!("{shape:?}")));
        }
        if let Some(value) = values.iter().find(|v| self.half && !f16::from_f32(**v).is_finite()) {
            return Err(Error::argument(name.to_owned(), value, "a number that f16 can hold"));
        }
        let as_f32 = format!("{name}.f32");
        if self.taken.insert(name.to_owned()) {
            let (data_type, raw_data) = match self.half {
                true => (DataType::Float16, values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
                false => (DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            };
            self.initializers.push(tensor(name, shape, data_type, raw_data));
            if self.half {
                let to = vec![("to", Attribute::Int(DataType::Float as i64))];
                self.nodes.push(node(as_f32.clone(), "Cast", &[name], std::slice::from_ref(&as_f32), to));
            }
        }
        Ok(if self.half { as_f32 } else { name.to_owned() })
    }

    /// A constant of integers: a shape, indices, places of axes.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(&[values.len()], DataType::Int64, bytes)
    }

    /// A constant of f32.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.constant(shape, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant number.
    pub fn number(&mut self, value: f32) -> Value {
        self.floats(&[], &[value])
    }

    /// Equal constants are one.
    fn constant(&mut self, shape: &[usize], data_type: DataType, bytes: Vec<u8>) -> Value {
        let dims: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let same = |t: &&TensorProto| {
            t.name.starts_with("constant_") && t.dims == dims && t.data_type == data_type as i32 && t.raw_data == bytes
        };
        if let Some(known) = self.initializers.iter().find(same) {
            return known.name.clone();
        }
        let name = format!("constant_{}", self.initializers.len());
        self.initializers.push(tensor(&name, shape, data_type, bytes));
        name
    }

    // What operators share. A 0 in the shape of a reshape keeps that dimension, and −1 is what is left.

    pub fn add(&mut self, a: &str, b: &str) -> Value {
        self.node("Add", &[a, b], vec![])
    }

    pub fn mul(&mut self, a: &str, b: &str) -> Value {
        self.node("Mul", &[a, b], vec![])
    }

    pub fn scale(&mut self, x: &str, factor: f32) -> Value {
        let factor = self.number(factor);
        self.mul(x, &factor)
    }

    pub fn matmul(&mut self, a: &str, b: &str) -> Value {
        self.node("MatMul", &[a, b], vec![])
    }

    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.node("Reshape", &[x, &shape], vec![])
    }

    pub fn transpose(&mut self, x: &str, order: &[i64]) -> Value {
        self.node("Transpose", &[x], vec![("perm", Attribute::Ints(order.to_vec()))])
    }

    pub fn unsqueeze(&mut self, x: &str, axis: i64) -> Value {
        let axes = self.integers(&[axis]);
        self.node("Unsqueeze", &[x, &axes], vec![])
    }

    /// Rows of an axis: PyTorch's `index_select`.
    pub fn gather(&mut self, x: &str, axis: i64, rows: &[i64]) -> Value {
        let rows = self.integers(rows);
        self.node("Gather", &[x, &rows], vec![("axis", Attribute::Int(axis))])
    }

    pub fn concat(&mut self, parts: &[&str], axis: i64) -> Value {
        self.node("Concat", parts, vec![("axis", Attribute::Int(axis))])
    }

    /// Parts of the last axis of these widths.
    pub fn split<const N: usize>(&mut self, x: &str, widths: [usize; N]) -> [Value; N] {
        let widths = self.integers(&widths.map(|width| width as i64));
        self.node_of("Split", &[x, &widths], vec![("axis", Attribute::Int(-1))])
    }

    /// The mean over one axis.
    pub fn mean(&mut self, x: &str, axis: i64, keep: bool) -> Value {
        let attributes = vec![("axes", Attribute::Ints(vec![axis])), ("keepdims", Attribute::Int(keep.into()))];
        self.node("ReduceMean", &[x], attributes)
    }

    /// The number of samples B of a tensor and further dimensions, as a shape.
    pub fn shape_like(&mut self, x: &str, rest: &[i64]) -> Value {
        let shape = self.node("Shape", &[x], vec![]);
        let batch = self.gather(&shape, 0, &[0]);
        let rest = self.integers(rest);
        self.concat(&[&batch, &rest], 0)
    }

    /// x (.., D) → (.., F), with `name.weight` (F, D) and, if there is one, `name.bias` (F): PyTorch's `nn.Linear`.
    pub fn linear(&mut self, x: &str, name: &str, (from, to): (usize, usize), bias: bool) -> Result<Value> {
        self.enter(name);
        let weight = self.weight(&format!("{name}.weight"), &[to, from])?;
        let weight = self.transpose(&weight, &[1, 0]);
        let y = self.matmul(x, &weight);
        if !bias {
            return Ok(y);
        }
        let bias = self.weight(&format!("{name}.bias"), &[to])?;
        Ok(self.add(&y, &bias))
    }

    /// PyTorch's `nn.LayerNorm` over the last axis.
    pub fn layer_norm(&mut self, x: &str, name: &str, width: usize, eps: f32) -> Result<Value> {
        self.enter(name);
        let weight = self.weight(&format!("{name}.weight"), &[width])?;
        let bias = self.weight(&format!("{name}.bias"), &[width])?;
        let attributes = vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(eps))];
        Ok(self.node("LayerNormalization", &[x, &weight, &bias], attributes))
    }

    /// PyTorch's `nn.RMSNorm` over the last axis.
    pub fn rms_norm(&mut self, x: &str, name: &str, width: usize, eps: f32) -> Result<Value> {
        self.enter(name);
        let weight = self.weight(&format!("{name}.weight"), &[width])?;
        let squares = self.mul(x, x);
        let mean = self.mean(&squares, -1, true);
        let eps = self.number(eps);
        let mean = self.add(&mean, &eps);
        let root = self.node("Sqrt", &[&mean], vec![]);
        let unit = self.node("Div", &[x, &root], vec![]);
        Ok(self.mul(&unit, &weight))
    }

    /// x·Φ(x): PyTorch's `nn.GELU`, without its approximation.
    pub fn gelu(&mut self, x: &str) -> Value {
        let inner = self.scale(x, std::f32::consts::FRAC_1_SQRT_2);
        let erf = self.node("Erf", &[&inner], vec![]);
        let one = self.number(1.0);
        let sum = self.add(&erf, &one);
        let twice = self.mul(x, &sum);
        self.scale(&twice, 0.5)
    }

    /// x·σ(x)
    pub fn silu(&mut self, x: &str) -> Value {
        let gate = self.node("Sigmoid", &[x], vec![]);
        self.mul(x, &gate)
    }

    /// The whole graph. Each output is the value of that name, and gets the name in front.
    pub fn finish(mut self, name: &str, input: ValueInfoProto, outputs: Vec<(ValueInfoProto, Value)>) -> GraphProto {
        self.enter("output");
        for (info, value) in &outputs {
            self.nodes.push(node(info.name.clone(), "Identity", &[value], std::slice::from_ref(&info.name), vec![]));
        }
        GraphProto {
            node: self.nodes,
            name: name.to_owned(),
            initializer: self.initializers,
            input: vec![input],
            output: outputs.into_iter().map(|(info, _)| info).collect(),
        }
    }
}

/// A node of these names.
pub fn node(
    name: String, op: &str, inputs: &[&str], outputs: &[String], attributes: Vec<(&str, Attribute)>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.to_vec(),
        name,
        op_type: op.to_owned(),
        attribute: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
    }
}

fn attribute(name: &str, value: Attribute) -> AttributeProto {
    let mut made = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    let kind = match value {
        Attribute::Float(v) => {
            made.f = v;
            AttributeType::Float
        }
        Attribute::Int(v) => {
            made.i = v;
            AttributeType::Int
        }
        Attribute::Ints(v) => {
            made.ints = v;
            AttributeType::Ints
        }
        Attribute::Graph(v) => {
            made.g = Some(v);
            AttributeType::Graph
        }
    };
    made.r#type = kind as i32;
    made
}

fn tensor(name: &str, shape: &[usize], data_type: DataType, raw_data: Vec<u8>) -> TensorProto {
    let dims = shape.iter().map(|&n| n as i64).collect();
    TensorProto { dims, data_type: data_type as i32, name: name.to_owned(), raw_data }
}

/// An input or output of f32. A dimension is a number, or `None` for that of the batch.
pub fn info(name: &str, shape: &[Option<usize>]) -> ValueInfoProto {
    let extent = |n: &Option<usize>| n.map_or_else(|| Extent::Named("batch".into()), |n| Extent::Value(n as i64));
    let dim = shape.iter().map(|n| DimensionProto { value: Some(extent(n)) }).collect();
    value_info(name, Some(TensorShapeProto { dim }))
}

/// An input or output of f32 whose shape is left to whoever reads the graph.
pub fn info_of_any_shape(name: &str) -> ValueInfoProto {
    value_info(name, None)
}

fn value_info(name: &str, shape: Option<TensorShapeProto>) -> ValueInfoProto {
    let tensor_type = TensorTypeProto { elem_type: DataType::Float as i32, shape };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
