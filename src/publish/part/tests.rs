use super::*;
use crate::jpeg::HUFFMAN_TABLES;

const SIZE: Size = Size { width: 4, height: 2 };

#[test]
fn part_is_headers_jpeg_and_the_next_boundary() {
    let mut pool = PartPool::default();
    let frame = pool.assemble(&[b"\xff\xd8ab", b"", b"cd\xff\xd9"], SIZE, MonotonicTime::now());
    assert_eq!(frame.jpeg(), &b"\xff\xd8abcd\xff\xd9"[..]);
    let part = frame.part();
    let text = String::from_utf8_lossy(part);
    assert!(text.starts_with("Content-Type: image/jpeg\r\nContent-Length: 8\r\nX-Timestamp: "), "{text}");
    assert!(text.contains("X-Sequence: 1\r\n\r\n"), "{text}");
    assert!(part.ends_with(multipart::DELIMITER));
    // A reference into the part, not a copy.
    assert!(part.as_ptr_range().contains(&frame.jpeg().as_ptr()));
}

#[test]
fn parts_nobody_holds_are_written_again() {
    let mut pool = PartPool::default();
    let jpeg = vec![7; 30_000];
    let mut addresses = std::collections::HashSet::new();
    let mut previous = None;
    for _ in 0..100 {
        // The hub holds one frame while the next is made.
        let frame = pool.assemble(&[&jpeg], SIZE, MonotonicTime::now());
        addresses.insert(frame.part().as_ptr());
        previous = Some(frame);
    }
    drop(previous);
    assert!(addresses.len() <= PartPool::KEPT, "{} different buffers", addresses.len());
}

#[test]
fn memory_of_one_large_picture_is_given_back() {
    let mut pool = PartPool::default();
    let mut newest = pool.assemble(&[&vec![7; 4 << 20]], SIZE, MonotonicTime::now());
    for _ in 0..200 {
        newest = pool.assemble(&[&[8; 9000]], SIZE, MonotonicTime::now());
    }
    drop(newest);
    let capacities = std::mem::take(&mut pool.parts).into_iter().map(|part| part.try_into_mut().unwrap().capacity());
    assert!(capacities.sum::<usize>() < 200_000);
}

#[test]
fn a_stalled_viewers_frame_is_never_written_again() {
    let mut pool = PartPool::default();
    let held: Vec<_> = (0..10_u8).map(|i| pool.assemble(&[&[i; 1000]], SIZE, MonotonicTime::now())).collect();
    for _ in 0..50 {
        pool.assemble(&[&[0xaa; 1000]], SIZE, MonotonicTime::now());
    }
    for (i, frame) in held.iter().enumerate() {
        assert_eq!(frame.jpeg(), vec![i as u8; 1000], "frame {i}");
    }
    assert!(pool.parts.len() <= PartPool::KEPT);
}

#[test]
fn headers_fit_their_reserve() {
    // The constant is what keeps a part from being moved while it is written.
    let mut pool = PartPool::default();
    let frame = pool.assemble(&[HUFFMAN_TABLES], SIZE, MonotonicTime::now());
    assert!(frame.part().len() <= multipart::HEADERS_MAX + HUFFMAN_TABLES.len() + multipart::DELIMITER.len());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// Whatever bytes a JPEG has (even boundaries), a reader that goes by Content-Length gets them back.
        #[test]
        fn any_bytes_can_be_read_back(
            pieces in proptest::collection::vec(
                prop_oneof![any::<Vec<u8>>(), Just(multipart::DELIMITER.to_vec()), Just(multipart::OPENING.to_vec())],
                0..4,
            ),
            nanos: u64,
        ) {
            let mut pool = PartPool::default();
            let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let frame = pool.assemble(&borrowed, SIZE, MonotonicTime::from_nanos(nanos));
            let part = frame.part();
            let head = memchr::memmem::find(part, b"\r\n\r\n").unwrap() + 4;
            let text = std::str::from_utf8(&part[..head]).unwrap();
            prop_assert!(head <= multipart::HEADERS_MAX);
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .unwrap()
                .parse()
                .unwrap();
            prop_assert_eq!(&part[head..head + length], pieces.concat());
            prop_assert_eq!(&part[head + length..], multipart::DELIMITER);
            prop_assert_eq!(frame.jpeg(), pieces.concat());
        }
    }
}
