//! Batches made ahead by a thread of their own, so that decoding and augmentation overlap with the computation.

use std::mem::replace;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Things that are made ahead: one is in use, one ready, one in the making.
const AHEAD: usize = 3;

/// Batches in order, as they come from the thread that makes them.
#[derive(Debug)]
pub struct Ahead<T> {
    filled: Receiver<T>,
    empty: SyncSender<T>,
    current: Option<T>,
}

impl<T: Default> Ahead<T> {
    /// The next one, until it is asked for again; `None` behind the last.
    pub fn next_item(&mut self) -> Option<&mut T> {
        let next = self.filled.recv().ok();
        if let Some(used) = replace(&mut self.current, next) {
            // The other side is gone once the last one is made.
            let _ = self.empty.send(used);
        }
        self.current.as_mut()
    }
}

/// Runs `consume` on this thread while `produce`, told the number of the batch, fills `count` batches on another. The
/// same few are filled again and again. What `consume` leaves is not made.
pub fn prefetch<T: Default + Send, R>(
    count: usize,
    mut produce: impl FnMut(usize, &mut T) + Send,
    consume: impl FnOnce(&mut Ahead<T>) -> R,
) -> R {
    let (to_consumer, filled) = sync_channel(AHEAD);
    let (empty, to_producer) = sync_channel(AHEAD);
    for _ in 0..AHEAD {
        // The channel holds as many.
        let _ = empty.send(T::default());
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            for index in 0..count {
                let Ok(mut item) = to_producer.recv() else { return };
                produce(index, &mut item);
                if to_consumer.send(item).is_err() {
                    return;
                }
            }
        });
        // It goes at the end of this block, which ends the other thread if it is still at work.
        let mut ahead = Ahead { filled, empty, current: None };
        consume(&mut ahead)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrive_in_order_and_buffers_are_used_again() {
        let mut lengths = Vec::new();
        let produce = |index: usize, item: &mut Vec<usize>| {
            item.push(index);
        };
        let last: Vec<usize> = prefetch(20, produce, |ahead| {
            let mut last = Vec::new();
            while let Some(item) = ahead.next_item() {
                lengths.push(item.len());
                last.push(item[item.len() - 1]);
            }
            last
        });
        assert!(last.into_iter().eq(0..20));
        assert_eq!(lengths.iter().max(), Some(&7));
    }

    #[test]
    fn a_consumer_may_leave_early_and_there_may_be_nothing() {
        let first =
            prefetch(1_000_000, |index, item: &mut usize| *item = index + 1, |ahead| ahead.next_item().copied());
        assert_eq!(first, Some(1));
        assert_eq!(prefetch(0, |_, _: &mut usize| {}, |ahead| ahead.next_item().copied()), None);
    }
}
