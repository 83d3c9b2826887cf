//! Files in PyTorch's format: those that PyTorch wrote (pickled/make.py) are read correctly,
//! hostile ones are refused.

use std::path::{Path, PathBuf};

use posttrain::error::{Kind, kind_of};
use posttrain::model::checkpoint::{self, CONFIG, PICKLED, PICKLED_INDEX, WEIGHTS};
use posttrain::model::tensors::Tensors;
use posttrain::random::Stream;

use super::bits;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model").join(name)
}

#[test]
fn views_of_storages_are_read_as_pytorch_reads_them() {
    let (pickled, expected) = (
        Tensors::open(&[place("pickled/views.bin")]).unwrap(),
        Tensors::open(&[place("pickled/views.safetensors")]).unwrap(),
    );
    let names: Vec<&str> = expected.names().collect();
    assert_eq!(names.len(), 16);
    for name in names {
        assert_eq!(pickled.shape(name), expected.shape(name), "{name}");
        assert_eq!(
            bits(&pickled.read(name).unwrap()),
            bits(&expected.read(name).unwrap()),
            "{name}"
        );
    }
    for (name, dtype) in [("position_ids", "I64"), ("mask", "U8"), ("flags", "BOOL")] {
        let message = pickled.read(name).unwrap_err().to_string();
        assert!(message.contains(name) || message.contains(dtype), "{message}");
    }
    assert_eq!(pickled.shape("scalar"), Some(&[][..]));
}

/// A folder with a file of a model's tensors.
fn folder(files: &[(&str, PathBuf)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(place("golden/gpt2/config.json"), folder.path().join(CONFIG)).unwrap();
    for (name, from) in files {
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn shards_in_half_precision_without_prefix_and_with_masks_are_the_same_model() {
    let shards = ["shard-1.bin", "shard-2.bin"].map(|name| (name, place("pickled").join(name)));
    let folder = folder(&[
        (PICKLED_INDEX, place("pickled/index.json")),
        shards[0].clone(),
        shards[1].clone(),
    ]);
    let expected = checkpoint::load(&place("golden/gpt2")).unwrap();
    let found = checkpoint::load(folder.path()).unwrap();
    assert!(found.params == expected.params && found.spec == expected.spec);
    // The written files do not depend on the format that was read.
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint::save(a.path(), &found).unwrap();
    checkpoint::save(b.path(), &expected).unwrap();
    let bytes = |folder: &Path| std::fs::read(folder.join(WEIGHTS)).unwrap();
    assert!(bytes(a.path()) == bytes(b.path()));
    // A safetensors file goes first.
    std::fs::copy(place("golden/gpt2/model.safetensors"), folder.path().join(WEIGHTS)).unwrap();
    std::fs::write(folder.path().join("shard-1.bin"), "damaged").unwrap();
    assert!(checkpoint::load(folder.path()).unwrap().params == expected.params);
}

/// An archive of stored entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let (start, size, length) = (bytes.len() as u32, content.len() as u32, name.len() as u16);
        bytes.extend([0x50, 0x4b, 3, 4, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(
            size.to_le_bytes()
                .into_iter()
                .chain(size.to_le_bytes())
                .chain(length.to_le_bytes())
                .chain([0, 0]),
        );
        bytes.extend(name.bytes().chain(content.iter().copied()));
        directory.extend([0x50, 0x4b, 1, 2, 10, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        directory.extend(
            size.to_le_bytes().into_iter().chain(size.to_le_bytes()).chain(length.to_le_bytes()),
        );
        directory.extend([0; 12].into_iter().chain(start.to_le_bytes()).chain(name.bytes()));
    }
    let (start, size, count) =
        (bytes.len() as u32, directory.len() as u32, (entries.len() as u16).to_le_bytes());
    bytes.extend(&directory);
    bytes.extend([0x50, 0x4b, 5, 6, 0, 0, 0, 0].into_iter().chain(count).chain(count));
    bytes.extend(size.to_le_bytes().into_iter().chain(start.to_le_bytes()).chain([0, 0]));
    bytes
}

/// The bytes before the arguments of a tensor `x` of a storage "0" of `length` float32 numbers.
fn head(length: u8) -> Vec<u8> {
    let mut bytes = b"\x80\x02}q\x00X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n\
        ((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        .to_vec();
    bytes.extend(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK");
    bytes.extend([length, b't', b'Q']);
    bytes
}

/// A table with one tensor, `x`.
fn tensor(length: u8, offset: &[u8], sizes: &[u8], strides: &[u8]) -> Vec<u8> {
    [&head(length), offset, sizes, strides, b"\x89ccollections\nOrderedDict\n)RtRs."].concat()
}

/// Opens an archive with such a pickle, and a storage "0" of 8 float32 numbers.
fn open(pickle: &[u8]) -> posttrain::error::Result<Tensors> {
    let numbers: Vec<u8> = (0..8u8).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    open_bytes(&zip(&[("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", &numbers)]))
}

fn open_bytes(bytes: &[u8]) -> posttrain::error::Result<Tensors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PICKLED);
    std::fs::write(&path, bytes).unwrap();
    Tensors::open(&[path])
}

#[track_caller]
fn refused(opened: posttrain::error::Result<Tensors>, word: &str) {
    let error = opened.err().expect("it is refused");
    let message = error.to_string();
    assert_eq!(kind_of(&error), Kind::User, "{message}");
    assert!(message.contains(word) && message.contains(PICKLED), "{message}");
}

#[test]
fn a_table_of_tensors_is_read() {
    let pickle = tensor(8, b"K\x01", b"K\x02K\x03\x86", b"K\x03K\x01\x86");
    let tensors = open(&pickle).unwrap();
    assert_eq!(tensors.shape("x"), Some(&[2, 3][..]));
    assert_eq!(tensors.read("x").unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let turned = open(&tensor(8, b"K\x01", b"K\x03K\x02\x86", b"K\x01K\x03\x86")).unwrap();
    assert_eq!(turned.read("x").unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn anything_but_tensors_is_refused_by_name() {
    let calls: &[(&[u8], &str)] = &[
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "torch.storage._load_from_bytes"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n.", "_rebuild_tensor_v3"),
        (b"\x80\x02c__builtin__\ngetattr\n.", "getattr"),
        // Opcodes of other protocols: instances, extensions, buffers.
        (b"\x80\x02(ios\nsystem\n.", "0x69"),
        (b"\x80\x02(cos\nsystem\no.", "os.system"),
        (b"\x80\x02\x82\x01.", "0x82"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "0x81"),
        (b"\x80\x05\x97.", "0x97"),
        (b"\x80\x02I1\n.", "0x49"),
    ];
    for (pickle, word) in calls {
        refused(open(pickle), word);
    }
}

#[test]
fn tensors_that_do_not_lie_within_their_storage_are_refused() {
    let cases: &[[&[u8]; 3]] = &[
        // Beyond the end, by sizes, by offset, by strides.
        [b"K\x00", b"K\x09\x85", b"K\x01\x85"],
        [b"K\x01", b"K\x08\x85", b"K\x01\x85"],
        [b"K\x00", b"K\x02\x85", b"K\x08\x85"],
        // Numbers below zero.
        [b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85"],
        [b"K\x00", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"],
        [b"K\x02", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"],
        // Products and sums that overflow.
        [b"K\x00", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04\x86", b"K\x00K\x00\x86"],
        [
            b"K\x00",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
        ],
        [
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"K\x02\x85",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
        ],
        // One number repeated more often than its storage is long.
        [b"K\x00", b"J\x00\x00\x00\x70\x85", b"K\x00\x85"],
        // Nothing, from far outside.
        [b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x3f", b"K\x00\x85", b"K\x01\x85"],
        // As many sizes as strides, and not of other kinds.
        [b"K\x00", b"K\x02K\x02\x86", b"K\x01\x85"],
        [b"K\x00", b"K\x02\x85", b"N\x85"],
    ];
    for [offset, sizes, strides] in cases {
        refused(open(&tensor(8, offset, sizes, strides)), "within its storage");
    }
    let many = [&b"("[..], &b"K\x01".repeat(17), b"t"].concat();
    refused(open(&tensor(8, b"K\x00", &many, &many)), "within its storage");
    // The storage is longer than its entry, or not there.
    refused(open(&tensor(9, b"K\x00", b"K\x09\x85", b"K\x01\x85")), "cut off");
    let pickle = tensor(8, b"K\x00", b"K\x08\x85", b"K\x01\x85");
    refused(open_bytes(&zip(&[("m/data.pkl", &pickle)])), "not there");
    refused(open_bytes(&zip(&[("m/data.pkl", &pickle), ("m/data/0", &[0; 31])])), "cut off");
}

#[test]
fn pickles_that_make_no_sense_are_refused() {
    let long = [b"\x80\x02X\xff\xff\xff\x7f".to_vec(), vec![b'a'; 9]].concat();
    let deep =
        [b"\x80\x02".to_vec(), b")".to_vec(), b"\x85".repeat(200_000), b".".to_vec()].concat();
    let doubled = [b"\x80\x02)".to_vec(), b"q\x00h\x00\x86".repeat(100), b".".to_vec()].concat();
    let endless = [b"\x80\x02".to_vec(), b"N0".repeat(3_000_000)].concat();
    let marks = [b"\x80\x02".to_vec(), b"(".repeat(1_000_000)].concat();
    let twice = [&tensor(8, b"K\x00", b"K\x01\x85", b"K\x01\x85")[..], b""].concat();
    let twice = [&twice[..twice.len() - 1], &twice[5..]].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"", "cut off"),
        (b"\x80\x02", "cut off"),
        (b"\x80\x02.", "empty stack"),
        (b"\x80\x02N.", "no table"),
        (b"\x80\x02].", "no table"),
        (b"\x80\x02)R.", "empty stack"),
        (b"\x80\x02))R.", "not a function"),
        (b"\x80\x02h\x05.", "never stored"),
        (b"\x80\x02j\xff\xff\xff\xff.", "never stored"),
        (b"\x80\x02q\x05.", "empty stack"),
        (b"\x80\x02\x94.", "empty stack"),
        (b"\x80\x02t.", "mark"),
        (b"\x80\x02u.", "mark"),
        (b"\x80\x02e.", "mark"),
        (b"\x80\x02N(t0(0.", "empty stack"),
        (b"\x80\x02N(NNu.", "not a table"),
        (b"\x80\x02}(Nu.", "no value"),
        (b"\x80\x02NNNs.", "not a table"),
        (b"\x80\x02NNa.", "not a list"),
        (b"\x80\x02NNb.", "not a table"),
        (b"\x80\x02}NNs.", "not text"),
        (b"\x80\x02}X\x01\x00\x00\x00xNs.", "`x`"),
        (b"\x80\x02}X\x01\x00\x00\x00x}s.", "`x`"),
        (b"\x80\x02NQ.", "tuple"),
        (b"\x80\x02)Q.", "PyTorch does not"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "UTF-8"),
        (b"\x80\x02c\xff\n\n.", "UTF-8"),
        (b"\x80\x02cos", "cut off"),
        (b"\x80\x04NN\x93.", "by other than text"),
        (b"\x80\x02\x8a\x09123456789.", "64 bits"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "cut off"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "does not take"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "does not take"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.", "does not take"),
        (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "does not take"),
        (&long, "cut off"),
        (&deep, "no table"),
        (&doubled, "no table"),
        (&endless, "steps"),
        (&marks, "cut off"),
        (&twice, "twice"),
    ];
    for (pickle, word) in cases {
        refused(open(pickle), word);
    }
}

#[test]
fn damaged_archives_are_refused_wherever_they_are_damaged() {
    let pickle = tensor(8, b"K\x01", b"K\x02K\x03\x86", b"K\x03K\x01\x86");
    let numbers = [0; 32];
    let entries: [(&str, &[u8]); 2] = [("m/data.pkl", &pickle), ("m/data/0", &numbers)];
    let bytes = zip(&entries);
    assert!(open_bytes(&bytes).is_ok());
    for length in 0..bytes.len() {
        let error = open_bytes(&bytes[..length]).err().expect("it is not whole");
        assert_eq!(kind_of(&error), Kind::User, "{length}: {error}");
    }
    // No byte that is changed leads to a panic, or to numbers from outside of the file.
    let mut draws = Stream::new(1, "damage").sequence(0);
    for at in 0..bytes.len() {
        for _ in 0..4 {
            let mut changed = bytes.clone();
            changed[at] = draws.below(256) as u8;
            match open_bytes(&changed) {
                Ok(tensors) => tensors.names().for_each(|name| drop(tensors.read(name))),
                Err(error) => assert_eq!(kind_of(&error), Kind::User, "{at}: {error}"),
            }
        }
    }
    refused(
        open_bytes(&zip(&[
            ("m/data.pkl", &pickle),
            ("m/data/0", &numbers),
            ("m/data/0", &numbers),
        ])),
        "twice",
    );
    refused(open_bytes(&zip(&[("m/data/0", &numbers)])), "no data.pkl");
    refused(open_bytes(&zip(&[entries[0], entries[1], ("m/byteorder", b"big")])), "lowest byte");
    let mut compressed = bytes.clone();
    let directory = compressed.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    compressed[directory + 10] = 8;
    refused(open_bytes(&compressed), "compressed");
}

#[test]
fn files_of_old_versions_are_refused_with_what_to_do() {
    let legacy = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    refused(open_bytes(legacy), "1.6");
    refused(open_bytes(b""), "zip archive");
    refused(open_bytes(b"not a model"), "zip archive");
}

#[test]
fn numbers_wider_than_ours_are_refused() {
    let pickle = tensor(8, b"K\x00", b"K\x01\x85", b"K\x01\x85");
    let at = pickle.windows(12).position(|window| window == b"FloatStorage").unwrap();
    let double = [&pickle[..at], b"DoubleStorage", &pickle[at + 12..]].concat();
    refused(open(&double), "cut off");
    let tensors = open_bytes(&zip(&[("m/data.pkl", &double), ("m/data/0", &[0; 64])])).unwrap();
    let message = tensors.read("x").unwrap_err().to_string();
    assert!(message.contains("F64") && message.contains("`x`"), "{message}");
}
