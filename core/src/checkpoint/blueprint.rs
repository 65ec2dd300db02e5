//! What a model asks for: the tensors of a configuration, found by loading it
//! on to a device that has no memory. So a model's `load` is the one place that
//! says what it is made of.

use std::cell::RefCell;
use std::rc::Rc;

use super::Source;
use crate::Result;
use crate::backend::{
    Activation, AttentionDims, Backend, Columns, Epilogue, PoolDims, Span, UnfoldDims, WeightData,
};

/// What a tensor is to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix, which may be stored in blocks.
    Weight,
    /// What is kept in f32: biases, norms, positions, temperatures.
    Parameter,
}

/// A tensor that a model asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its canonical name.
    pub name: String,
    /// The shape, outermost first.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// A device without memory that notes what is asked of it.
#[derive(Clone, Default)]
pub struct Blueprint(Rc<RefCell<Vec<Asked>>>);

/// Empty tensors.
struct Nothing;

impl Source for Nothing {
    fn read(&self, _name: &str, shape: &[usize]) -> Result<WeightData> {
        // A single number may be looked at on the host.
        let one = usize::from(shape.iter().product::<usize>() == 1);
        Ok(WeightData::F32(vec![0.0; one]))
    }
}

impl Blueprint {
    /// Every tensor that `load` asks for, each once, in its order.
    ///
    /// # Errors
    /// Where the configuration makes no model.
    pub fn of<T>(load: impl FnOnce(&Self, &dyn Source) -> Result<T>) -> Result<Vec<Asked>> {
        let blueprint = Self::default();
        load(&blueprint, &Nothing)?;
        let asked = blueprint.0.take();
        Ok(asked)
    }

    fn note(&self, name: &str, shape: &[usize], role: Role) {
        let mut asked = self.0.borrow_mut();
        if asked.iter().all(|asked| asked.name != name) {
            asked.push(Asked {
                name: name.to_owned(),
                shape: shape.to_vec(),
                role,
            });
        }
    }
}

impl Backend for Blueprint {
    type Buffer = ();
    type Ids = ();
    type Weight = ();

    fn parameter(&self, name: &str, _: Vec<f32>, shape: &[usize]) -> Result<()> {
        self.note(name, shape, Role::Parameter);
        Ok(())
    }

    fn weight(&self, name: &str, _: WeightData, rows: usize, cols: usize) -> Result<()> {
        self.note(name, &[rows, cols], Role::Weight);
        Ok(())
    }

    fn upload(&self, _: &[f32]) -> Result<()> {
        Ok(())
    }
    fn upload_ids(&self, _: &[u32]) -> Result<()> {
        Ok(())
    }
    async fn read(&self, (): &(), len: usize) -> Result<Vec<f32>> {
        Ok(vec![0.0; len])
    }
    fn linear(
        &self,
        (): &(),
        _: usize,
        (): &(),
        _: (usize, usize),
        _: Epilogue<'_, ()>,
    ) -> Result<()> {
        Ok(())
    }
    fn layer_norm(&self, (): &(), _: (usize, usize), (): &(), (): &(), _: f32) -> Result<()> {
        Ok(())
    }
    fn l2_normalize(&self, (): &(), _: (usize, usize)) -> Result<()> {
        Ok(())
    }
    fn add(&self, (): &(), _: usize, (): &(), _: usize) -> Result<()> {
        Ok(())
    }
    fn activate(&self, (): &(), _: usize, _: Activation) -> Result<()> {
        Ok(())
    }
    fn attention(
        &self,
        _: Columns<'_, ()>,
        _: Columns<'_, ()>,
        _: Columns<'_, ()>,
        _: AttentionDims,
    ) -> Result<()> {
        Ok(())
    }
    fn unfold(&self, (): &(), _: UnfoldDims) -> Result<()> {
        Ok(())
    }
    fn avg_pool(&self, (): &(), _: PoolDims) -> Result<()> {
        Ok(())
    }
    fn concat(&self, _: usize, _: Span<'_, ()>, _: Span<'_, ()>) -> Result<()> {
        Ok(())
    }
    fn narrow(&self, (): &(), _: (usize, usize), _: usize, _: usize) -> Result<()> {
        Ok(())
    }
    fn embed(&self, (): &(), _: (usize, usize), (): &(), _: usize) -> Result<()> {
        Ok(())
    }
    fn gather(&self, (): &(), _: (usize, usize), (): &(), _: usize) -> Result<()> {
        Ok(())
    }
}
