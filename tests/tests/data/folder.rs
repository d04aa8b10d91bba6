use std::fs::{self, File};
use std::path::{Path, PathBuf};

use darts_host::data::{self, DataError, DataSource, LoadOptions};
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage, RgbaImage};
use rayon::ThreadPoolBuilder;
use tempfile::{TempDir, tempdir};

/// A folder of images beside a folder for the cache.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempdir().expect("a folder") }
    }

    fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// The place of an image, its folders made.
    fn at(&self, name: &str) -> PathBuf {
        let path = self.images().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creatable");
        path
    }

    fn write(&self, name: &str, shade: u8) {
        image(4, 3, shade).save(self.at(name)).expect("writable");
    }

    fn try_load(&self) -> Result<DataSource, DataError> {
        let options = LoadOptions { cache_folder: Some(self.folder.path().join("cache")), ..LoadOptions::default() };
        data::load(self.images().to_str().expect("UTF-8"), &options)
    }

    fn load(&self) -> DataSource {
        self.try_load().expect("a good folder")
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let message = self.try_load().expect_err("a bad folder").to_string();
        assert!(!message.contains('\n'), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }

    fn cache(&self) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(self.folder.path().join("cache")).expect("a cache").collect();
        assert_eq!(files.len(), 1);
        files.remove(0).expect("readable").path()
    }
}

/// An image with another value in every channel of every pixel.
fn image(width: u32, height: u32, shade: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([shade, x as u8 * 16, y as u8 * 16]))
}

/// Two classes with training and test images, PNG.
fn split_folder() -> Place {
    let place = Place::new();
    for index in 0..5 {
        place.write(&format!("train/cat/{index}.png"), index);
        place.write(&format!("train/dog/{index}.png"), 100 + index);
    }
    place.write("test/cat/0.png", 50);
    place.write("test/dog/1.png", 150);
    place
}

/// The first value of every image, which names the file, with its label.
fn shades(data: &data::Dataset) -> Vec<(u8, u16)> {
    (0..data.len()).map(|index| (data.image(index)[0], data.labels()[index])).collect()
}

#[test]
fn a_folder_with_both_sets_loads_with_its_classes_mixed() {
    let source = split_folder().load();
    assert_eq!((source.shape().height, source.shape().width, source.shape().channels), (3, 4, 3));
    assert_eq!(source.train.class_names(), ["cat", "dog"]);
    let mut train = shades(&source.train);
    assert!(!train.is_sorted());
    train.sort_unstable();
    assert_eq!(
        train,
        [0, 1, 2, 3, 4]
            .map(|index| (index, 0))
            .into_iter()
            .chain([0, 1, 2, 3, 4].map(|index| (100 + index, 1)))
            .collect::<Vec<_>>()
    );
    let mut test = shades(&source.test);
    test.sort_unstable();
    assert_eq!(test, [(50, 0), (150, 1)]);
    for index in 0..10 {
        let pixels = source.train.image(index);
        assert_eq!(pixels, image(4, 3, pixels[0]).as_raw().as_slice());
    }
}

#[test]
fn a_folder_of_classes_alone_has_every_sixth_image_held_out() {
    let place = Place::new();
    for index in 0..12 {
        place.write(&format!("cat/{index:02}.png"), index);
        place.write(&format!("dog/{index:02}.png"), 100 + index);
    }
    place.write("dog/.thumbnail.png", 1);
    fs::write(place.at("README.txt"), "what these are").expect("writable");
    let source = place.load();
    assert_eq!(source.train.class_counts(), [10, 10]);
    let mut test = shades(&source.test);
    test.sort_unstable();
    assert_eq!(test, [(5, 0), (11, 0), (105, 1), (111, 1)]);
}

#[test]
fn parallel_and_serial_decoding_give_the_same() {
    let at_threads = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let place = split_folder();
        let mut source = pool.install(|| place.load());
        source.name.clear();
        source
    };
    assert_eq!(at_threads(1), at_threads(4));
}

#[test]
fn jpeg_png_grey_and_transparent_images_go_together() {
    let place = split_folder();
    image(4, 3, 200).save_with_format(place.at("train/cat/jpeg.JPG"), ImageFormat::Jpeg).expect("writable");
    GrayImage::from_pixel(4, 3, Luma([77])).save(place.at("train/cat/grey.png")).expect("writable");
    RgbaImage::from_pixel(4, 3, image::Rgba([33, 34, 35, 0])).save(place.at("train/cat/rgba.png")).expect("writable");
    let source = place.load();
    assert_eq!((source.train.len(), source.shape().channels), (13, 3));
    let has = |expected: &[u8]| (0..13).any(|index| source.train.image(index) == expected);
    assert!(has(&[77; 36]) && has(&[33, 34, 35].repeat(12)));
    // JPEG is lossy; its colour is near.
    assert!((0..13).any(|index| source.train.image(index)[0].abs_diff(200) < 20));
}

#[test]
fn images_without_colour_have_one_channel() {
    let place = Place::new();
    for index in 0..6 {
        let grey = GrayImage::from_fn(2, 2, |x, y| Luma([index * 10 + (2 * y + x) as u8]));
        grey.save(place.at(&format!("only/{index}.png"))).expect("writable");
    }
    let source = place.load();
    assert_eq!(source.shape().channels, 1);
    assert_eq!(source.test.images(), [50, 51, 52, 53]);
    assert_eq!(source.train.len(), 5);
}

#[test]
fn a_bad_image_is_named() {
    let place = split_folder();
    let path = place.at("train/dog/3.png");
    let whole = fs::read(&path).expect("readable");
    for damaged in [b"no image".to_vec(), whole[..whole.len() / 2].to_vec(), vec![]] {
        fs::write(&path, damaged).expect("writable");
        place.refused(&["train/dog/3.png", "not a whole JPEG or PNG", "replace or remove"]);
    }
    image(5, 3, 1).save(&path).expect("writable");
    place.refused(&["train/dog/3.png", "3×5", "3×4", "scale all images to one size"]);
    assert!(!place.folder.path().join("cache").exists());
}

/// Cuts an image file at every length of its second half, from which a decoder would make a partly grey image.
#[test]
fn an_image_cut_anywhere_is_truncated() {
    for name in ["train/dog/3.png", "train/dog/3.jpg"] {
        let place = split_folder();
        let path = place.at(name);
        image(4, 3, 9).save(&path).expect("writable");
        let whole = fs::read(&path).expect("readable");
        for length in whole.len() / 2..whole.len() {
            fs::write(&path, &whole[..length]).expect("writable");
            place.refused(&[name, "truncated", "replace or remove"]);
        }
        // Some cameras and programs append something.
        fs::write(&path, [&whole[..], &[0; 5]].concat()).expect("writable");
        place.load();
    }
}

/// A thumbnail in a segment of metadata has an end marker too.
#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_the_image() {
    let place = split_folder();
    let path = place.at("train/dog/3.jpg");
    image(4, 3, 9).save(&path).expect("writable");
    let plain = fs::read(&path).expect("readable");
    let length = (plain.len() as u16 + 2).to_be_bytes();
    let whole = [&plain[..2], &[0xff, 0xe7], &length, &plain, &plain[2..]].concat();
    fs::write(&path, &whole).expect("writable");
    place.load();
    fs::write(&path, &whole[..whole.len() - 2]).expect("writable");
    place.refused(&["train/dog/3.jpg", "truncated"]);
}

#[test]
fn a_layout_that_does_not_fit_is_refused() {
    let place = split_folder();
    place.write("test/bird/0.png", 1);
    place.refused(&["test/bird", "no class of the training set", "cat, dog"]);

    let place = split_folder();
    fs::write(place.at("train/cat/notes.txt"), "x").expect("writable");
    place.refused(&["train/cat/notes.txt", "does not end in .jpg"]);

    let place = split_folder();
    fs::create_dir(place.images().join("train/bird")).expect("creatable");
    place.refused(&["train/bird", "no image", "FOLDER/train/CLASS"]);

    let place = split_folder();
    fs::remove_dir_all(place.images().join("test")).expect("removable");
    place.refused(&["test", "check that it exists"]);

    let place = split_folder();
    fs::rename(place.images(), place.folder.path().join("inner")).expect("renamable");
    fs::create_dir(place.images()).expect("creatable");
    fs::rename(place.folder.path().join("inner"), place.images().join("inner")).expect("renamable");
    place.refused(&["images/inner/", "a folder where images", "FOLDER/train/CLASS"]);

    let place = Place::new();
    (0..5).for_each(|index| place.write(&format!("cat/{index}.png"), index));
    place.refused(&["cat", "5 images are too few"]);
}

/// A PNG of many gigabytes by its header, of a few bytes by its size, as the first of many.
#[test]
fn sizes_beyond_memory_are_refused_before_they_are_allocated() {
    let place = split_folder();
    let path = place.at("train/cat/0.png");
    let mut bytes = fs::read(&path).expect("readable");
    bytes[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    fs::write(path, bytes).expect("writable");
    place.refused(&["train/cat/0.png", "12 images of 65535×65535 take 143 GiB"]);
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Changes the content of an image, but neither its size nor its time, by which a cache is known to be fresh.
fn change_unseen(path: &Path) {
    let time = fs::metadata(path).expect("there").modified().expect("a time");
    let size = fs::metadata(path).expect("there").len() as usize;
    fs::write(path, vec![0; size]).expect("writable");
    File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("settable");
}

#[test]
fn what_was_decoded_once_is_read_from_the_cache() {
    let place = split_folder();
    let decoded = place.load();
    change_unseen(&place.at("train/cat/0.png"));
    assert_eq!(place.load(), decoded);
    // Without the cache the image would have been found damaged.
    fs::remove_file(place.cache()).expect("removable");
    place.refused(&["train/cat/0.png"]);
}

#[test]
fn a_changed_folder_is_decoded_again_into_the_same_cache_file() {
    let place = split_folder();
    place.load();
    place.write("train/cat/5.png", 5);
    assert_eq!(place.load().train.len(), 11);
    fs::remove_file(place.at("train/cat/5.png")).expect("removable");
    assert_eq!(place.load().train.len(), 10);
    fs::rename(place.at("train/cat/4.png"), place.at("train/dog/cat.png")).expect("renamable");
    assert_eq!(place.load().train.class_counts(), [4, 6]);
    place.cache();
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let place = split_folder();
    let decoded = place.load();
    let whole = fs::read(place.cache()).expect("readable");
    let damages = (0..whole.len()).step_by(7).map(|at| {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        damaged
    });
    let truncations = [0, 7, 8, 20, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec());
    for damaged in damages.chain(truncations) {
        fs::write(place.cache(), &damaged).expect("writable");
        assert_eq!(place.load(), decoded);
        assert_eq!(fs::read(place.cache()).expect("readable"), whole);
    }
}

#[test]
fn a_cache_that_cannot_be_written_does_no_harm() {
    let place = split_folder();
    fs::write(place.folder.path().join("cache"), "a file in the way").expect("writable");
    assert_eq!(place.load().train.len(), 10);
}
