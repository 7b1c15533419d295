//! One request or new connection at a time for the whole worker while somebody watches, and between two of them whatever else is ready: above
//! all the newest frame. So requests without end, on however many connections, make frames late by one request, not by all
//! that wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

/// Where somebody is who wants to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Not in the queue.
    #[default]
    Away,
    /// In it.
    Waits,
    /// It may pass, whoever else wants to.
    Called,
}

/// Who may queue at a [`Turnstile`].
pub trait Queues {
    /// Kept for the turnstile.
    fn turn(&self) -> &Cell<Turn>;
    /// It may ask again now. False if it has gone.
    fn call(&self) -> bool;
}

/// Where requests of all connections queue, and new connections.
pub struct Turnstile {
    /// A request has gone through in this round.
    is_shut: Cell<bool>,
    /// Connections that have gone meanwhile cost no memory to speak of.
    waiting: RefCell<VecDeque<Weak<dyn Queues>>>,
    shut: Notify,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { is_shut: Cell::new(false), waiting: RefCell::default(), shut: Notify::new() }
    }
}

impl Turnstile {
    /// True if this one may go through now. Else it is called when it is its turn.
    pub fn pass(&self, queuing: &Rc<impl Queues + 'static>) -> bool {
        let turn = queuing.turn();
        if turn.get() != Turn::Called && self.is_shut.replace(true) {
            if turn.replace(Turn::Waits) == Turn::Away {
                let queuing = Rc::downgrade(queuing);
                self.waiting.borrow_mut().push_back(queuing);
            }
            return false;
        }
        turn.set(Turn::Away);
        self.shut.notify_one();
        true
    }

    /// Opens it again, once in each round of the runtime. Runs for ever.
    pub async fn keep(self: Rc<Self>) {
        loop {
            self.shut.notified().await;
            loop {
                // Comes back when everything that was ready has had its turn, and sockets were looked at.
                tokio::task::yield_now().await;
                if !self.call_next() {
                    self.is_shut.set(false);
                    break;
                }
            }
        }
    }

    /// Calls the next one that is still there.
    fn call_next(&self) -> bool {
        while let Some(next) = { self.waiting.borrow_mut().pop_front() } {
            let Some(next) = next.upgrade() else { continue };
            next.turn().set(Turn::Called);
            if next.call() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::{Poll, Waker};

    use super::*;

    /// Gone without a waker.
    #[derive(Default)]
    struct Request(RefCell<Option<Waker>>, Cell<Turn>);

    impl Queues for Request {
        fn turn(&self) -> &Cell<Turn> {
            &self.1
        }

        fn call(&self) -> bool {
            self.0.take().inspect(Waker::wake_by_ref).is_some()
        }
    }

    #[test]
    fn others_have_their_turn_between_two_requests() {
        let passed = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&passed);
        actix_rt::System::new().block_on(async move {
            let turnstile = Rc::new(Turnstile::default());
            actix_rt::spawn(Rc::clone(&turnstile).keep());
            let requests: Vec<_> = (0..40)
                .map(|number| {
                    let (turnstile, noted) = (Rc::clone(&turnstile), Rc::clone(&noted));
                    actix_rt::spawn(async move {
                        let request = Rc::<Request>::default();
                        poll_fn(|cx| {
                            if turnstile.pass(&request) {
                                return Poll::Ready(());
                            }
                            // Some go before it is their turn.
                            if number % 4 == 3 {
                                return Poll::Ready(());
                            }
                            *request.0.borrow_mut() = Some(cx.waker().clone());
                            Poll::Pending
                        })
                        .await;
                        if number % 4 != 3 {
                            noted.borrow_mut().push(Some(number));
                        }
                    })
                })
                .collect();
            // Somebody who is always ready.
            let other = Rc::clone(&noted);
            let frames = actix_rt::spawn(async move {
                loop {
                    other.borrow_mut().push(None);
                    tokio::task::yield_now().await;
                }
            });
            for request in requests {
                request.await.unwrap();
            }
            frames.abort();
        });
        let passed = passed.borrow();
        let requests: Vec<i32> = passed.iter().copied().flatten().collect();
        assert_eq!(requests, (0..40).filter(|number| number % 4 != 3).collect::<Vec<_>>(), "in order");
        assert!(passed.windows(2).all(|two| two[0].is_none() || two[1].is_none()), "{passed:?}");
    }
}
