//! What watches a search or a training, and may stop it.

use crate::atomic::WriteError;
use crate::checkpoint::RestoreError;
use crate::interrupt::Interrupted;
use crate::state::State;

/// Watches a search or a training; all methods have empty defaults.
pub trait Observer<Epoch> {
    /// The state before the first step. An observer that continues a run puts that run's state in its place.
    ///
    /// # Errors
    /// A state that is not one of this run.
    fn restore(&mut self, _state: State<Epoch>) -> Result<(), RestoreError> {
        Ok(())
    }
    /// A step is done.
    fn step(&mut self, _progress: StepProgress) {}
    /// So many parts of the selection that follows a search are done.
    fn selection(&mut self, _done: usize, _parts: usize) {}
    /// An epoch is done. An error ends the run.
    ///
    /// # Errors
    /// A file that the observer cannot write.
    fn epoch(&mut self, _record: &Epoch) -> Result<(), WriteError> {
        Ok(())
    }
    /// Whether to be given the state after the step at hand.
    fn wants_state(&self) -> bool {
        false
    }
    /// The state: after a step that it was asked for, behind every epoch, and when the run is stopped. An error ends
    /// the run.
    ///
    /// # Errors
    /// A file that the observer cannot write.
    fn save(&mut self, _state: State<Epoch>) -> Result<(), WriteError> {
        Ok(())
    }
    /// Whether to stop after the step at hand, or after the batch of an evaluation.
    fn stop(&self) -> bool {
        false
    }
    /// [`stop`](Self::stop) as an error, for use with `?`.
    ///
    /// # Errors
    /// [`Interrupted`] if the observer wants to stop.
    fn go_on(&self) -> Result<(), Interrupted> {
        if self.stop() { Err(Interrupted) } else { Ok(()) }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct StepProgress {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Step within the epoch, from 0.
    pub step: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Images of the step.
    pub images: usize,
    /// Training loss of the step.
    pub loss: f64,
}
