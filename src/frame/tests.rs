use super::*;

#[test]
fn the_clocks_agree() {
    let now = MonotonicTime::now();
    let off = now.to_system_time().duration_since(SystemTime::now()).unwrap_or_else(|error| error.duration());
    assert!(off < Duration::from_millis(50), "{off:?}");
    let later = now + Duration::from_secs(60);
    assert_eq!(later.elapsed(), Duration::ZERO, "a moment to come has not elapsed");
    assert_eq!(later.since(now), Duration::from_secs(60));
    assert_eq!(now.since(later), Duration::ZERO);
    assert_eq!(
        MonotonicTime::from_nanos(1_500_000_000).since(MonotonicTime::from_nanos(0)),
        Duration::from_millis(1500)
    );
}
