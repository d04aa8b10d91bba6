//! A graph of ONNX, node by node.

use std::collections::HashMap;

use darts_kernels_simd::ImageShape;
use prost::Message;

use super::proto::{self, AttributeProto, GraphProto, NodeProto, TensorProto};

/// Collects nodes and constants. A node that does what another one does already is not made again.
#[derive(Default)]
pub(super) struct Builder {
    pub graph: GraphProto,
    /// Output of each node, by all of it but names.
    outputs: HashMap<Vec<u8>, String>,
}

impl Builder {
    /// Adds a node and returns its output, which is called `{scope}/{operator}` with a number if that is taken.
    pub fn node(&mut self, scope: &str, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let mut node = NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            op_type: Some(operator.to_owned()),
            attribute: attributes,
            ..NodeProto::default()
        };
        let number = self.graph.node.len();
        let key = node.encode_to_vec();
        if let Some(output) = self.outputs.get(&key) {
            return output.clone();
        }
        let output = format!("{scope}/{operator}.{number}");
        self.outputs.insert(key, output.clone());
        node.name = Some(output.clone());
        node.output = vec![output.clone()];
        self.graph.node.push(node);
        output
    }

    /// Adds the constant `name` of `shape`.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(tensor(name, shape, proto::FLOAT, bytes));
    }

    /// Adds the constant `name` of `shape`, of 8-bit integers.
    pub fn bytes(&mut self, name: &str, shape: &[usize], values: &[i8]) {
        let bytes = values.iter().map(|value| value.cast_unsigned()).collect();
        self.graph.initializer.push(tensor(name, shape, proto::INT8, bytes));
    }

    /// Adds the constant `name`, a list of 32-bit integers.
    pub fn words(&mut self, name: &str, values: &[i32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(tensor(name, &[values.len()], proto::INT32, bytes));
    }

    /// A number; equal ones are the same constant.
    pub fn scale(&mut self, value: f32) -> String {
        let name = format!("scale {value:e}");
        self.once(tensor(&name, &[], proto::FLOAT, value.to_le_bytes().into()));
        name
    }

    /// What stands for 0; equal ones are the same constant.
    pub fn zero_point(&mut self, value: i8) -> String {
        let name = format!("zero {value}");
        self.once(tensor(&name, &[], proto::INT8, value.to_le_bytes().into()));
        name
    }

    fn once(&mut self, constant: TensorProto) {
        if !self.graph.initializer.iter().any(|known| known.name == constant.name) {
            self.graph.initializer.push(constant);
        }
    }

    /// An image of zeros for each image of the batch `input`.
    pub fn zeros(&mut self, scope: &str, input: &str, shape: ImageShape) -> String {
        let batch = self.node(scope, "Shape", &[input], vec![int("start", 0), int("end", 1)]);
        let image = self.integers(&[shape.channels as i64, shape.height as i64, shape.width as i64]);
        let shape = self.node(scope, "Concat", &[&batch, &image], vec![int("axis", 0)]);
        self.node(scope, "ConstantOfShape", &[&shape], vec![zero()])
    }

    /// A constant of integers; equal ones are the same.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let name = values.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.once(tensor(&name, &[values.len()], proto::INT64, bytes));
        name
    }
}

fn tensor(name: &str, shape: &[usize], data_type: i32, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&extent| extent as i64).collect(),
        data_type: Some(data_type),
        name: Some(name.to_owned()),
        raw_data: Some(bytes),
    }
}

/// An attribute that is a number.
pub(super) fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value as i64),
        r#type: Some(proto::attribute::INT),
        ..AttributeProto::default()
    }
}

/// An attribute that is a list of numbers.
pub(super) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints: values.iter().map(|&value| value as i64).collect(),
        r#type: Some(proto::attribute::INTS),
        ..AttributeProto::default()
    }
}

/// The attribute `value` that is the single number zero.
fn zero() -> AttributeProto {
    AttributeProto {
        name: Some("value".to_owned()),
        t: Some(tensor("", &[1], proto::FLOAT, 0f32.to_le_bytes().to_vec())),
        r#type: Some(proto::attribute::TENSOR),
        ..AttributeProto::default()
    }
}
