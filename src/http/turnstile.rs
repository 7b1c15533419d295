//! One request at a time for the whole worker while somebody watches, and between two of them whatever else is ready: above
//! all the newest frame. So requests without end, on however many connections, make frames late by one request, not by all
//! that wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::sync::Notify;

/// Where requests of all connections queue.
#[derive(Debug, Default)]
pub struct Turnstile {
    /// A request has gone through in this round.
    is_shut: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
    shut: Notify,
}

impl Turnstile {
    /// True if a request may go through now. Else whoever polls with `cx` is woken when it is its turn to ask again.
    pub fn pass(&self, cx: &Context<'_>) -> bool {
        if self.is_shut.replace(true) {
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push_back(cx.waker().clone());
            }
            return false;
        }
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
                self.is_shut.set(false);
                let Some(next) = self.waiting.borrow_mut().pop_front() else { break };
                next.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

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
                        poll_fn(|cx| if turnstile.pass(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
                        noted.borrow_mut().push(Some(number));
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
        assert_eq!(requests, (0..40).collect::<Vec<_>>(), "in order");
        assert!(passed.windows(2).all(|two| two[0].is_none() || two[1].is_none()), "{passed:?}");
    }
}
