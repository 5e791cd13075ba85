//! Signing in tells nobody who is known here: not by its words, not by its time, not by the work that it makes.

use std::time::{Duration, Instant};

use http::Method;

use crate::desk::{ADMIN, Desk, Said};

async fn login(desk: &Desk, email: &str, password: &str) -> (Said, Duration) {
    let body = format!(r#"{{"email": "{email}", "password": "{password}"}}"#);
    let began = Instant::now();
    let said = desk.call(Method::POST, "/v1/auth/login", &[("content-type", "application/json")], &body).await;
    (said, began.elapsed())
}

async fn writes(desk: &Desk) -> u64 {
    let text = desk.by(ADMIN, Method::GET, "/metrics", "").await.text;
    text.lines().find_map(|l| l.strip_prefix("linkspan_store_requests_total ")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_is_refused_like_a_known_one() {
    let desk = Desk::new().await;
    for (email, disabled) in [("known@example.com", false), ("gone@example.com", true)] {
        let body = format!(r#"{{"email": "{email}", "password": "correct horse battery"}}"#);
        let made = desk.by(ADMIN, Method::POST, "/v1/users", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let path = format!("/v1/users/{email}");
        let changed = desk.by(ADMIN, Method::PATCH, &path, &format!(r#"{{"disabled": {disabled}}}"#)).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    }
    assert_eq!(login(&desk, "known@example.com", "correct horse battery").await.0.status, 200);
    let mut quickest = Vec::new();
    let mut words = Vec::new();
    for email in ["known@example.com", "nobody@example.com", "gone@example.com"] {
        let before = writes(&desk).await;
        let mut times = Vec::new();
        for _ in 0..5 {
            let (said, took) = login(&desk, email, "wrong horse battery").await;
            assert_eq!(said.status, 401, "{said:?}");
            words.push(said.text);
            times.push(took);
        }
        assert_eq!(writes(&desk).await - before, 5, "{email}: as many writes for each");
        quickest.push(times.into_iter().min().unwrap());
    }
    assert!(words.windows(2).all(|two| two[0] == two[1]), "{words:?}");
    // The quickest of five is hardly disturbed by what else the machine does. One that was not hashed would take a hundredth.
    let (least, most) = (quickest.iter().min().unwrap(), quickest.iter().max().unwrap());
    assert!(*most < *least * 3, "known, unknown, disabled: {quickest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_guess_in_a_minute_waits_whether_the_name_is_known_or_not() {
    let desk = Desk::new().await;
    let made = desk.by(ADMIN, Method::POST, "/v1/users", r#"{"email": "known@example.com", "password": "correct horse battery"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    for email in ["known@example.com", "nobody@example.com"] {
        for _ in 0..10 {
            assert_eq!(login(&desk, email, "wrong horse battery").await.0.status, 401);
        }
        let (said, _) = login(&desk, email, "correct horse battery").await;
        assert_eq!(said.status, 429, "{email}: {said:?}");
        assert!(said.header("retry-after").parse::<u64>().unwrap() <= 60, "{said:?}");
    }
}
