//! Writing a GGUF file, one tensor at a time.

use std::io::Write;

use half::f16;

use super::value::write_text;
use super::{DEFAULT_ALIGNMENT, Dtype, MAGIC, MAX_AXES, VERSION, Value};
use crate::backend::WeightData;
use crate::quant::BLOCK;
use crate::{Error, Result};

/// What a tensor will be stored as.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name; at most 63 bytes, GGML's own bound.
    pub name: String,
    /// The shape, outermost first.
    pub shape: Vec<usize>,
    /// The numbers.
    pub dtype: Dtype,
}

/// Writes a file, one tensor at a time.
pub struct Writer<W: Write> {
    out: W,
    planned: std::vec::IntoIter<Plan>,
}

fn failed(error: &std::io::Error) -> Error {
    Error::Read(format!("writing failed: {error}"))
}

impl<W: Write> Writer<W> {
    /// Writes the header. `general.alignment` is added to the metadata.
    ///
    /// # Errors
    /// Where a tensor cannot be stored as planned, or writing fails.
    pub fn new(mut out: W, metadata: &[(String, Value)], planned: Vec<Plan>) -> Result<Self> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((planned.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64 + 1).to_le_bytes());
        let alignment = (
            "general.alignment".to_owned(),
            Value::Unsigned(DEFAULT_ALIGNMENT),
        );
        for (key, value) in metadata.iter().chain([&alignment]) {
            write_text(key, &mut header);
            header.extend(value.kind().to_le_bytes());
            value.write(&mut header);
        }
        let mut offset = 0u64;
        for Plan { name, shape, dtype } in &planned {
            let bytes = dtype.bytes(shape).filter(|_| {
                name.len() < 64 && !shape.is_empty() && shape.len() <= MAX_AXES as usize
            });
            let bytes = bytes.ok_or_else(|| {
                Error::Checkpoint(format!(
                    "tensor `{name}` of shape {shape:?} cannot be stored as {dtype} in GGUF"
                ))
            })?;
            write_text(name, &mut header);
            header.extend((shape.len() as u32).to_le_bytes());
            for &axis in shape.iter().rev() {
                header.extend((axis as u64).to_le_bytes());
            }
            header.extend(dtype.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += bytes.next_multiple_of(DEFAULT_ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        out.write_all(&header).map_err(|error| failed(&error))?;
        Ok(Self {
            out,
            planned: planned.into_iter(),
        })
    }

    /// Writes the next tensor of the plan, converted to what is planned.
    ///
    /// # Errors
    /// Where the numbers do not fill the planned shape, one is not finite, or
    /// writing fails.
    pub fn write(&mut self, data: WeightData) -> Result<()> {
        let plan = self.planned.next();
        let Plan { name, shape, dtype } =
            plan.ok_or_else(|| Error::Checkpoint("more tensors than planned".into()))?;
        if data.len() != shape.iter().product::<usize>() {
            return Err(Error::TensorShape {
                name,
                expected: shape,
                found: vec![data.len()],
            });
        }
        let mut bytes = encode(data, dtype).map_err(|why| {
            Error::Checkpoint(format!(
                "tensor `{name}` cannot be stored as {dtype}: {why}"
            ))
        })?;
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        self.out.write_all(&bytes).map_err(|error| failed(&error))
    }

    /// Ends the file and gives the writer back.
    ///
    /// # Errors
    /// Where a planned tensor was not written, or writing fails.
    pub fn finish(mut self) -> Result<W> {
        if let Some(plan) = self.planned.next() {
            return Err(Error::MissingTensor { name: plan.name });
        }
        self.out.flush().map_err(|error| failed(&error))?;
        Ok(self.out)
    }
}

/// Numbers → bytes of a type. What is of that type already stays to the bit.
fn encode(data: WeightData, dtype: Dtype) -> Result<Vec<u8>, &'static str> {
    match (data, dtype) {
        (WeightData::Quantized(kind, bytes), Dtype::Quantized(to)) if kind == to => Ok(bytes),
        (WeightData::F16(data), Dtype::F16) => {
            Ok(data.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        (data, dtype) => {
            let data = data.into_f32();
            if data.iter().any(|x| !x.is_finite()) {
                return Err("it has a number that is infinite or none");
            }
            match dtype {
                Dtype::F32 => Ok(data.iter().flat_map(|x| x.to_le_bytes()).collect()),
                Dtype::F16 if data.iter().any(|x| f16::from_f32(*x).is_infinite()) => {
                    Err("it has a number beyond 65504; take f32")
                }
                Dtype::F16 => {
                    let halves = data.iter().map(|&x| f16::from_f32(x));
                    Ok(halves.flat_map(f16::to_le_bytes).collect())
                }
                Dtype::Quantized(kind) if data.len().is_multiple_of(BLOCK) => {
                    Ok(kind.quantize(&data))
                }
                _ => Err("there is no way to write it"),
            }
        }
    }
}
