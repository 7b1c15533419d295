use super::*;

const ASKED: Size = Size { width: 32, height: 16 };

/// A real picture. `mark` tells them apart.
fn tiny(mark: u8) -> Vec<u8> {
    of_size(Size { width: 32, height: 16 }, mark)
}

fn of_size(size: Size, mark: u8) -> Vec<u8> {
    use crate::encoder::{Encoder, Software};
    let (width, height) = (size.width as usize, size.height as usize);
    let luma: Vec<u8> =
        (0..width * height).map(|i| (i % width * 3 + i / width * 5 + usize::from(mark) * 40) as u8).collect();
    let chroma = vec![90; width.div_ceil(2) * height.div_ceil(2)];
    let planes = [(&luma, width), (&chroma, width.div_ceil(2)), (&chroma, width.div_ceil(2))];
    let planes = planes.map(|(data, stride)| Plane { data, stride, fd: None, offset: 0 });
    let frame = RawFrame::new(PixelFormat::Yuv420, size, planes, 0, MonotonicTime::now());
    Software::new(75).unwrap().encode(&frame).unwrap().pieces.concat()
}

fn play(replay: &mut Replay, frames: usize) -> Vec<Vec<u8>> {
    (0..frames)
        .map(|_| {
            let buffer = replay.acquire(Duration::from_secs(1), None).unwrap().unwrap();
            let data = replay.view(buffer).plane(0).unwrap().data.to_vec();
            replay.queue(buffer).unwrap();
            data
        })
        .collect()
}

#[test]
fn a_folder_plays_in_name_order_and_loops() {
    let folder = tempfile::tempdir().unwrap();
    for (name, mark) in [("b.jpg", 2), ("a.JPEG", 1), ("c.jpg", 3)] {
        std::fs::write(folder.path().join(name), tiny(mark)).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "not a picture").unwrap();
    let mut replay = Replay::open(folder.path(), 120.0, ASKED).unwrap();
    assert_eq!(replay.info().size, Size { width: 32, height: 16 });
    assert_eq!(play(&mut replay, 4), [tiny(1), tiny(2), tiny(3), tiny(1)]);
}

#[test]
fn one_file_is_cut_at_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    // Padding between pictures, and a last one that is cut off.
    let bytes = [tiny(1), vec![0; 100], tiny(2), tiny(3)[..20].to_vec()].concat();
    std::fs::write(&path, bytes).unwrap();
    let mut replay = Replay::open(&path, 120.0, ASKED).unwrap();
    assert_eq!(play(&mut replay, 3), [tiny(1), tiny(2), tiny(1)]);
}

#[test]
fn bytes_pass_untouched_even_damaged_ones() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.jpg"), b"not a JPEG").unwrap();
    std::fs::write(folder.path().join("2.jpg"), tiny(9)).unwrap();
    let mut replay = Replay::open(folder.path(), 120.0, ASKED).unwrap();
    assert_eq!(play(&mut replay, 2), [b"not a JPEG".to_vec(), tiny(9)]);
}

#[test]
fn what_cannot_be_played_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    let message = |path: &Path| Replay::open(path, 30.0, ASKED).unwrap_err().to_string();
    assert!(message(&path).contains("film.mjpeg: cannot be opened"), "{}", message(&path));
    assert!(message(folder.path()).contains("no .jpg or .jpeg files"));
    std::fs::write(&path, [0xff; 5000]).unwrap();
    assert!(message(&path).contains("no complete JPEG"));
    std::fs::write(&path, []).unwrap();
    assert!(message(&path).contains("no complete JPEG"));
}

#[test]
fn a_film_whose_pictures_all_lack_their_end_is_cut_where_the_next_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    let cut = |mark| tiny(mark)[..tiny(mark).len() - 2].to_vec();
    std::fs::write(&path, [cut(1), cut(2), cut(3)].concat()).unwrap();
    let mut replay = Replay::open(&path, 120.0, ASKED).unwrap();
    // Of the last one nothing tells where it ends.
    assert_eq!(play(&mut replay, 4), [cut(1), cut(2), cut(3), cut(1)]);
    std::fs::write(&path, [cut(1), tiny(2), cut(3)].concat()).unwrap();
    assert_eq!(play(&mut Replay::open(&path, 120.0, ASKED).unwrap(), 2), [tiny(2), tiny(2)]);
}

#[test]
fn the_bound_is_what_was_asked_for_or_the_largest_of_the_first_that_can_be_read() {
    use crate::jpeg::tests::lying;
    let size = |width, height| Size { width, height };
    let opened = |files: &[Vec<u8>], asked| {
        let folder = tempfile::tempdir().unwrap();
        for (number, file) in files.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{number:03}.jpg")), file).unwrap();
        }
        let replay = Replay::open(folder.path(), 120.0, asked).unwrap();
        (replay.info().size, replay.bound(), replay.notes())
    };
    let (small, large) = (size(64, 48), size(320, 240));
    let [small_file, large_file] = [small, large].map(|size| of_size(size, 1));
    // Lies: whole pictures of another size in their headers, first in the folder.
    let mut files: Vec<_> = [(65000, 65000), (320, 33000), (16704, 240), (320, 248), (336, 240), (8192, 8192)]
        .map(|(width, height)| lying(&large_file, width, height))
        .into();
    files.extend([b"not a JPEG".to_vec(), small_file.clone(), large_file.clone(), small_file.clone()]);
    assert_eq!(opened(&files, large), (large, Bound::of(large), Vec::new()));
    let (agreed, bound, notes) = opened(&files, small);
    assert_eq!((agreed, bound), (large, Bound::of(large)));
    assert!(
        notes[0].contains("camera.resolution 64x48 has no effect") && notes[0].contains("here 320x240"),
        "{notes:?}"
    );
    let hd = size(1280, 720);
    assert_eq!(opened(&files, hd).1, Bound::of(hd));
    // Nor is any behind twenty that cannot be read.
    let mut files = vec![b"no".to_vec(); 19];
    files.push(large_file.clone());
    assert_eq!(opened(&files, small).1, Bound::of(large));
    files.insert(0, b"no".to_vec());
    assert_eq!(opened(&files, small), (NO_SIZE, Bound::of(small), Vec::new()));
    // The eleventh is not looked at.
    let mut files = vec![small_file; 10];
    files.push(large_file);
    assert_eq!(opened(&files, small), (small, Bound::of(small), Vec::new()));
    files.swap(9, 10);
    assert_eq!(opened(&files, small).1, Bound::of(large));
    // Nothing can be read: whatever comes, no more than was asked for.
    assert_eq!(opened(&[b"no".to_vec()], small), (NO_SIZE, Bound::of(small), Vec::new()));
}

#[test]
fn a_film_of_headers_alone_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    let headers = &tiny(1)[..memchr::memmem::find(&tiny(1), b"\xff\xda").unwrap()];
    for piece in [&b"\xff\xd8"[..], b"\xff\xd8\xff\xe0\0\x02", headers] {
        for end in [&b""[..], b"\xff\xd9", b"\xff\xc0\0\x04\0\0", b"\xff\xe0\0\0"] {
            std::fs::write(&path, [&piece.repeat((256 << 10) / piece.len()), end].concat()).unwrap();
            // Looked through from each of them on, it takes minutes.
            let error = Replay::open(&path, 30.0, ASKED).unwrap_err().to_string();
            assert!(error.contains("film.mjpeg: ") && error.contains("without their pictures"), "{error}");
        }
    }
    // Damaged pictures of a film, many of them, cost no more than themselves.
    let damaged = [headers, b"\xff\xd9"].concat();
    std::fs::write(&path, [damaged.repeat(5000), tiny(2)].concat()).unwrap();
    assert_eq!(play(&mut Replay::open(&path, 120.0, ASKED).unwrap(), 1), [tiny(2)]);
}

#[test]
fn looking_at_the_first_pictures_takes_no_longer_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (Size { width: 32, height: 16 }, Size { width: 320, height: 240 });
    for (name, size) in [("1.jpg", small), ("2.jpg", large)] {
        std::fs::write(folder.path().join(name), of_size(size, 1)).unwrap();
    }
    let mut replay = Replay::open(folder.path(), 120.0, ASKED).unwrap();
    assert_eq!(replay.info().size, large);
    replay.look(Duration::ZERO);
    assert_eq!(replay.info().size, small);
}
