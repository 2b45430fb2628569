//! MEM++: what is predicted from what, written once for every kind of arithmetic (SPEC 5.3).
//!
//! This is the published forward pass with the contexts computed only where they are used: entropy parameters, window attention and the intra context
//! at one checkerboard half. The operators determine the arithmetic.

use std::sync::Arc;

use mlic_core::checkerboard::Parity;
use mlic_core::schedule::Pass;
use mlic_model::layout::{Chain, GlobalContextIds, LayerId, Layout, LocalContextIds, QuantizerId, SliceIds};

use crate::backend::BackendError;
use crate::ops::Ops;

/// Scale and mean of each symbol of a pass, packed.
#[derive(Debug, Clone)]
pub struct Gaussian<L> {
    /// Scale of the conditional Gaussian.
    pub scale: L,
    /// Mean of the conditional Gaussian; the model shares it until the symbols are committed.
    pub mean: Arc<L>,
}

/// What has been computed of the latent slice in progress.
struct SliceState<O: Ops> {
    channel: Option<O::Map>,
    inter: Option<O::Map>,
    mean: Option<Arc<O::Latent>>,
    /// `y_hat` at the anchors, packed, with the predicted residual added.
    anchors: Option<O::Latent>,
}

/// The entropy model of one image on one set of operators.
pub struct EntropyModel<'m, O: Ops> {
    layout: &'m Layout,
    ops: O,
    hyper: O::Map,
    hyper_halves: [O::Map; 2],
    slices: Vec<O::Map>,
    y_hat: Vec<O::Latent>,
    state: SliceState<O>,
    next: usize,
}

const fn half(parity: Parity) -> usize {
    match parity {
        Parity::Anchor => 0,
        Parity::NonAnchor => 1,
    }
}

impl<'m, O: Ops> EntropyModel<'m, O> {
    /// Starts from the hyper-latent after its inverse gain, in latent fixed point, and runs the hyper synthesis.
    ///
    /// # Errors
    /// An error of the operators.
    pub fn new(layout: &'m Layout, mut ops: O, z: &O::Latent) -> Result<Self, BackendError> {
        let ids = &layout.h_s;
        let mut map = ops.quantize(QuantizerId::Z, z)?;
        for (conv, up) in [(ids.conv0, ids.up0), (ids.conv1, ids.up1)] {
            map = ops.layer(conv, &[&map])?;
            map = ops.layer(up, &[&map])?;
            map = ops.shuffle(&map)?;
        }
        let hyper = ops.layer(ids.out, &[&map])?;
        let hyper_halves = [ops.pack(&hyper, Parity::Anchor)?, ops.pack(&hyper, Parity::NonAnchor)?];
        let (slices, y_hat) = (Vec::new(), Vec::new());
        Ok(Self { layout, ops, hyper, hyper_halves, slices, y_hat, state: SliceState::new(), next: 0 })
    }

    /// The operators.
    pub const fn ops(&self) -> &O {
        &self.ops
    }

    /// The operators, mutably.
    pub const fn ops_mut(&mut self) -> &mut O {
        &mut self.ops
    }

    /// `y_hat` of the complete latent slices.
    pub fn y_hat(&self) -> &[O::Latent] {
        &self.y_hat
    }

    /// `hyper_params`: the output of the hyper synthesis.
    pub const fn hyper_params(&self) -> &O::Map {
        &self.hyper
    }

    /// Global inter and channel context of the slice in progress.
    pub fn contexts(&self) -> [Option<&O::Map>; 2] {
        [self.state.inter.as_ref(), self.state.channel.as_ref()]
    }

    /// `y_hat` at the anchors of the slice in progress.
    pub fn anchors(&self) -> Option<&O::Latent> {
        self.state.anchors.as_ref()
    }

    fn slice_ids(&self, pass: Pass) -> Result<&'m SliceIds, BackendError> {
        let layout = self.layout;
        let in_turn = self.next == pass.index();
        layout.slices.get(pass.slice_index).filter(|_| in_turn).ok_or(BackendError::Order { pass })
    }

    /// Runs the networks up to the Gaussians of a pass.
    ///
    /// # Errors
    /// [`BackendError::Order`], or an error of the operators.
    pub fn parameters(&mut self, pass: Pass) -> Result<Gaussian<O::Latent>, BackendError> {
        let ids = self.slice_ids(pass)?;
        let mut inputs = Vec::with_capacity(5);
        match pass.parity {
            Parity::Anchor => {
                self.state = SliceState::new();
                let previous: Vec<&O::Map> = self.slices.iter().collect();
                let (channel, inter) = self.ops.both(
                    |ops| ids.channel.as_ref().map(|ids| chain(ops, ids, &previous, O::layer)).transpose(),
                    |ops| ids.inter.as_ref().map(|ids| inter_context(ops, ids, &previous)).transpose(),
                );
                (self.state.channel, self.state.inter) = (channel?, inter?);
            }
            Parity::NonAnchor => {
                let anchors = self.state.anchors.as_ref().ok_or(BackendError::Order { pass })?;
                let full = self.ops.merge(anchors, None)?;
                let anchors = self.ops.quantize(QuantizerId::y(pass.slice_index), &full)?;
                let intra = ids.intra.as_ref().zip(self.slices.last());
                let (local, intra) = self.ops.both(
                    |ops| local_context(ops, &ids.local, &anchors),
                    |ops| intra.map(|(ids, previous)| intra_context(ops, ids, previous, &anchors)).transpose(),
                );
                inputs.push(local?);
                inputs.extend(intra?);
            }
        }
        for context in [&self.state.inter, &self.state.channel].into_iter().flatten() {
            inputs.push(self.ops.pack(context, pass.parity)?);
        }
        let mut terms: Vec<&O::Map> = inputs.iter().collect();
        terms.push(&self.hyper_halves[half(pass.parity)]);
        let (scale, mean) = chain(&mut self.ops, &ids.entropy_parameters[half(pass.parity)], &terms, O::gaussian_layer)?;
        let mean = Arc::new(mean);
        self.state.mean = Some(Arc::clone(&mean));
        Ok(Gaussian { scale, mean })
    }

    /// Takes the symbols of a pass, reconstructs its half of the latent slice and adds the predicted residual.
    ///
    /// # Errors
    /// [`BackendError::Order`], or an error of the operators.
    pub fn commit(&mut self, pass: Pass, symbols: &[i32]) -> Result<(), BackendError> {
        let ids = self.slice_ids(pass)?;
        let mean = self.state.mean.clone().ok_or(BackendError::Order { pass })?;
        // A wrong number of symbols fails here, and the pass remains the next one.
        let y = self.ops.reconstruct(&mean, symbols)?;
        self.state.mean = None;
        let id = QuantizerId::y(pass.slice_index);
        let anchors = self.state.anchors.take();
        let full = match (pass.parity, &anchors) {
            (Parity::Anchor, _) => self.ops.merge(&y, None)?,
            (Parity::NonAnchor, Some(anchors)) => self.ops.merge(anchors, Some(&y))?,
            (Parity::NonAnchor, None) => return Err(BackendError::Order { pass }),
        };
        let current = self.ops.quantize(id, &full)?;
        let residual = self.residual(&ids.lrp[half(pass.parity)], &current, pass.parity)?;
        let y = self.ops.add(&y, &residual)?;
        match anchors {
            Some(anchors) if pass.parity == Parity::NonAnchor => {
                let full = self.ops.merge(&anchors, Some(&y))?;
                self.slices.push(self.ops.quantize(id, &full)?);
                self.y_hat.push(full);
            }
            _ => self.state.anchors = Some(y),
        }
        self.next += 1;
        Ok(())
    }

    /// Predicts the latent residual at one half.
    fn residual(&mut self, ids: &Chain, current: &O::Map, parity: Parity) -> Result<O::Latent, BackendError> {
        let mut inputs: Vec<&O::Map> = vec![&self.hyper];
        inputs.extend(&self.slices);
        inputs.push(current);
        chain(&mut self.ops, ids, &inputs, |ops, last, inputs| ops.residual_layer_at(last, inputs, parity))
    }
}

impl<O: Ops> SliceState<O> {
    const fn new() -> Self {
        Self { channel: None, inter: None, mean: None, anchors: None }
    }
}

/// Runs layers one after the other and returns the result of the last one.
fn chain<O: Ops, T>(
    ops: &mut O,
    ids: &Chain,
    inputs: &[&O::Map],
    last: impl FnOnce(&mut O, LayerId, &[&O::Map]) -> Result<T, BackendError>,
) -> Result<T, BackendError> {
    let Some((first, rest)) = ids.hidden.split_first() else { return last(ops, ids.last, inputs) };
    let mut map = ops.layer(*first, inputs)?;
    for id in rest {
        map = ops.layer(*id, &[&map])?;
    }
    last(ops, ids.last, &[&map])
}

/// Computes queries, keys and values, which do not depend on one another.
fn three<O: Ops>(
    ops: &mut O,
    project: impl Fn(&mut O, usize) -> Result<O::Map, BackendError> + Sync,
) -> Result<[O::Map; 3], BackendError> {
    let (queries, (keys, values)) = ops.both(|ops| project(ops, 0), |ops| ops.both(|ops| project(ops, 1), |ops| project(ops, 2)));
    Ok([queries?, keys?, values?])
}

/// A full map with zeros everywhere but in one half.
fn only<O: Ops>(ops: &mut O, map: &O::Map, parity: Parity) -> Result<O::Map, BackendError> {
    let packed = ops.pack(map, parity)?;
    ops.unpack(&packed, parity)
}

/// Checkerboard window attention at the non-anchors, from the anchors of this slice.
fn local_context<O: Ops>(ops: &mut O, ids: &LocalContextIds, anchors: &O::Map) -> Result<O::Map, BackendError> {
    let normed = ops.norm(ids.norm1, anchors)?;
    let [queries, keys, values] = three(ops, |ops, i| ops.layer(ids.qkv[i], &[&normed]))?;
    let attended = ops.local_attention(ids.attention, [&queries, &keys, &values])?;
    let fused = ops.layer(ids.fusion, &[&attended])?;
    let normed = ops.norm(ids.norm2, &fused)?;
    let hidden = ops.layer(ids.fc1, &[&normed])?;
    ops.layer(ids.out, &[&hidden, &fused])
}

/// Global inter context at all positions, from the latent slices before this one.
fn inter_context<O: Ops>(ops: &mut O, ids: &GlobalContextIds, previous: &[&O::Map]) -> Result<O::Map, BackendError> {
    let [queries, keys, values] = three(ops, |ops, i| {
        let pointwise = ops.layer(ids.projections.pointwise[i], previous)?;
        ops.layer(ids.projections.depthwise[i], &[&pointwise])
    })?;
    let attended = ops.linear_attention(ids.attention, [&queries, &keys, &values])?;
    let attended = ops.layer(ids.reprojection, &[&attended])?;
    let hidden = ops.layer(ids.mlp[0], &[&attended])?;
    let hidden = ops.layer(ids.mlp[1], &[&hidden])?;
    ops.layer(ids.out, &[&hidden, &attended])
}

/// Global intra context at the non-anchors. Queries come from the previous slice's non-anchors, keys from its anchors, values from the anchors of
/// this slice.
fn intra_context<O: Ops>(
    ops: &mut O,
    ids: &GlobalContextIds,
    previous: &O::Map,
    anchors: &O::Map,
) -> Result<O::Map, BackendError> {
    let asked = only(ops, previous, Parity::NonAnchor)?;
    let known = only(ops, previous, Parity::Anchor)?;
    let inputs = [(&asked, Parity::NonAnchor), (&known, Parity::Anchor), (anchors, Parity::Anchor)];
    let [queries, keys, values] = three(ops, |ops, i| {
        let (input, parity) = inputs[i];
        let pointwise = ops.layer(ids.projections.pointwise[i], &[input])?;
        ops.layer_at(ids.projections.depthwise[i], &[&pointwise], parity)
    })?;
    let attended = ops.linear_attention(ids.attention, [&queries, &keys, &values])?;
    let attended = ops.unpack(&attended, Parity::NonAnchor)?;
    let attended = ops.layer(ids.reprojection, &[&attended])?;
    let hidden = ops.layer(ids.mlp[0], &[&attended])?;
    let hidden = ops.layer_at(ids.mlp[1], &[&hidden], Parity::NonAnchor)?;
    let attended = ops.pack(&attended, Parity::NonAnchor)?;
    ops.layer(ids.out, &[&hidden, &attended])
}
