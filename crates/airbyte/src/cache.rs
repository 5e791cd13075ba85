//! Answers kept for the length of a sync: parent streams are asked for once, however many children they have.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use crate::answer::Answer;

/// What is kept at most: beyond it the oldest answers are asked for again.
const MOST_BYTES: usize = 64 << 20;

/// Answers by the request that they answer. Only whole, successful answers to requests that read are kept.
#[derive(Default)]
pub struct AnswerCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    answers: HashMap<Arc<[u8]>, Answer>,
    order: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

impl AnswerCache {
    /// The answer as it came: nothing that was worked out of it is kept.
    pub fn get(&self, request: &[u8]) -> Option<Answer> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).answers.get(request).map(Answer::afresh)
    }

    pub fn put(&self, request: Vec<u8>, answer: &Answer) {
        let size = answer.body.len() + request.len();
        if size > MOST_BYTES / 4 {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let key: Arc<[u8]> = request.into();
        if kept.answers.insert(key.clone(), answer.afresh()).is_some() {
            return;
        }
        kept.order.push_back(key);
        kept.bytes += size;
        while kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.answers.remove(&oldest) {
                kept.bytes = kept.bytes.saturating_sub(gone.body.len() + oldest.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn the_oldest_answers_make_room() {
        let cache = AnswerCache::default();
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), "", Bytes::from(vec![0; MOST_BYTES / 4 - 1]));
        for n in 0..6_u8 {
            cache.put(vec![n], &answer);
        }
        assert!(cache.get(&[0]).is_none());
        assert!(cache.get(&[5]).is_some());
        assert!(cache.0.lock().unwrap().bytes <= MOST_BYTES);
    }
}
