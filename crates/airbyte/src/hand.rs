//! Streams written as plain code: a future hands out items one by one and rests until each was taken.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::{Stream, stream::BoxStream};
use linkspan_core::Result;

/// Where the code puts its items.
pub struct Hand<T>(Slot<T>);

type Slot<T> = Arc<Mutex<Option<T>>>;

impl<T: Send> Hand<T> {
    /// Returns once the item was taken: nothing is made that nobody asked for.
    pub async fn out(&mut self, item: T) {
        *lock(&self.0) = Some(item);
        let slot = &self.0;
        // The reader polls again after it took the item; it needs no waker.
        std::future::poll_fn(|_| if lock(slot).is_some() { Poll::Pending } else { Poll::Ready(()) }).await;
    }
}

/// Runs `code` as the stream is polled; an error is the stream's last item.
pub fn stream<T, F, Code>(code: Code) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
    Code: FnOnce(Hand<T>) -> F,
{
    let slot: Slot<T> = Arc::default();
    let future: Pin<Box<dyn Future<Output = Result<()>> + Send>> = Box::pin(code(Hand(slot.clone())));
    Box::pin(Handed { slot, future: Some(future) })
}

struct Handed<T> {
    slot: Slot<T>,
    future: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
}

impl<T> Stream for Handed<T> {
    type Item = Result<T>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        let polled = future.as_mut().poll(cx);
        if let Some(item) = lock(&self.slot).take() {
            return Poll::Ready(Some(Ok(item)));
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(end) => {
                self.future = None;
                Poll::Ready(end.err().map(Err))
            }
        }
    }
}

fn lock<T>(slot: &Slot<T>) -> std::sync::MutexGuard<'_, Option<T>> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use linkspan_core::{Error, ErrorKind};

    use super::*;

    #[tokio::test]
    async fn items_are_made_as_they_are_pulled_and_an_error_comes_last() {
        let made = Arc::new(Mutex::new(0));
        let count = made.clone();
        let mut items = stream(move |mut hand| async move {
            for n in 0..3 {
                *count.lock().unwrap() += 1;
                hand.out(n).await;
                tokio::task::yield_now().await;
            }
            Err(Error::new(ErrorKind::Internal, "the end"))
        });
        assert_eq!(items.next().await.unwrap().unwrap(), 0);
        assert_eq!(*made.lock().unwrap(), 1);
        assert_eq!(items.next().await.unwrap().unwrap(), 1);
        assert_eq!(items.next().await.unwrap().unwrap(), 2);
        assert!(items.next().await.unwrap().is_err());
        assert!(items.next().await.is_none());
    }
}
