use super::*;

/// The smallest thing the walk accepts: SOI, a frame header, a scan, EOI. `mark` tells them apart.
fn tiny(mark: u8) -> Vec<u8> {
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xc4, 0, 3, 0];
    jpeg.extend([0xff, 0xc0, 0, 11, 8, 0, 16, 0, 32, 1, 1, 0x11, 0]);
    jpeg.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, mark, 0x12, 0xff, 0xd9]);
    jpeg
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
    let mut replay = Replay::open(folder.path(), 120.0).unwrap();
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
    let mut replay = Replay::open(&path, 120.0).unwrap();
    assert_eq!(play(&mut replay, 3), [tiny(1), tiny(2), tiny(1)]);
}

#[test]
fn bytes_pass_untouched_even_damaged_ones() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.jpg"), b"not a JPEG").unwrap();
    std::fs::write(folder.path().join("2.jpg"), tiny(9)).unwrap();
    let mut replay = Replay::open(folder.path(), 120.0).unwrap();
    assert_eq!(play(&mut replay, 2), [b"not a JPEG".to_vec(), tiny(9)]);
}

#[test]
fn what_cannot_be_played_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mjpeg");
    let message = |path: &Path| Replay::open(path, 30.0).unwrap_err().to_string();
    assert!(message(&path).contains("film.mjpeg: cannot be opened"), "{}", message(&path));
    assert!(message(folder.path()).contains("no .jpg or .jpeg files"));
    std::fs::write(&path, [0xff; 5000]).unwrap();
    assert!(message(&path).contains("no complete JPEG"));
    std::fs::write(&path, []).unwrap();
    assert!(message(&path).contains("no complete JPEG"));
}
