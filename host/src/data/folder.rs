//! A folder of JPEG or PNG images with one folder per class.

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use darts_kernels_simd::ImageShape;
use image::{DynamicImage, ImageDecoder, ImageReader};
use rayon::prelude::*;

use super::dataset::CRC;
use super::draw::{Purpose, generator, shuffle};
use super::ending::is_truncated;
use super::{DataError, DataSource, Dataset, LoadOptions, cache};

/// Of a folder without a test set, one image in this many is held out as one.
const HELD_OUT: usize = 6;
/// More decoded bytes than this are refused before they are allocated.
const MOST_BYTES: u64 = 16 << 30;
const LAYOUT: &str =
    "arrange images as FOLDER/train/CLASS/NAME.jpg and FOLDER/test/CLASS/NAME.jpg, or as FOLDER/CLASS/NAME.jpg";

/// One image file.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    class: u16,
    /// Size in bytes and time of the last change.
    size: u64,
    modified: u128,
}

/// The files of a folder, before any is read.
struct Listing {
    class_names: Vec<String>,
    train: Vec<Entry>,
    test: Vec<Entry>,
}

/// Whether `folder` has folders in it, as an image folder must.
pub(super) fn is_in(folder: &Path) -> bool {
    folders(folder).is_ok_and(|folders| !folders.is_empty())
}

/// Loads an image folder, from the cache if it has not changed since.
pub(super) fn load(folder: &Path, options: &LoadOptions) -> Result<DataSource, DataError> {
    let listing = list(folder)?;
    let key = key(folder, &listing);
    let cache = options.cache_folder.clone().or_else(cache::default_folder).map(|cache| cache::file(&cache, folder));
    let [train, test] = match cache.as_deref().and_then(|cache| cache::read(cache, key)) {
        Some(sets) => sets,
        None => {
            let [train, test] = decode(&listing, options)?;
            // Without a cache the work is done again next time, no more.
            if let Some(Err(error)) = cache.map(|cache| cache::write(&cache, key, [&train, &test])) {
                options.progress.line(&format!("decoded images are not kept: {error}"));
            }
            [train, test]
        }
    };
    Ok(DataSource { name: format!("{} (image folder)", folder.display()), train, test })
}

fn list(folder: &Path) -> Result<Listing, DataError> {
    let (train, test) = (folder.join("train"), folder.join("test"));
    if !train.is_dir() && !test.is_dir() {
        let class_names = class_names(folder)?;
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for (class, name) in class_names.iter().enumerate() {
            let entries = entries(&folder.join(name), class)?;
            if entries.len() < HELD_OUT {
                let problem = format!("{} images are too few to hold one of {HELD_OUT} out for testing", entries.len());
                return Err(DataError::Unusable {
                    path: folder.join(name),
                    problem,
                    remedy: "add images to the class",
                });
            }
            for (index, entry) in entries.into_iter().enumerate() {
                if index % HELD_OUT == HELD_OUT - 1 { test.push(entry) } else { train.push(entry) }
            }
        }
        return Ok(Listing { class_names, train, test });
    }
    let class_names = class_names(&train)?;
    if let Some(name) = self::class_names(&test)?.into_iter().find(|name| !class_names.contains(name)) {
        let problem = format!("no class of the training set has this name; they are: {}", class_names.join(", "));
        return Err(DataError::Unusable { path: test.join(name), problem, remedy: "use the same classes in both" });
    }
    let set = |set: &Path| -> Result<Vec<Entry>, DataError> {
        let mut all = Vec::new();
        for (class, name) in class_names.iter().enumerate() {
            // A class may be absent from the test set.
            if set.join(name).is_dir() {
                all.append(&mut entries(&set.join(name), class)?);
            }
        }
        Ok(all)
    };
    let (train, test) = (set(&train)?, set(&test)?);
    Ok(Listing { class_names, train, test })
}

/// The names of the classes in `folder`, sorted.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let names = folders(folder).map_err(|source| unreadable(folder, source))?;
    if names.is_empty() || names.len() > usize::from(u16::MAX) {
        let problem = format!("{} folders of classes in there", names.len());
        return Err(DataError::Unusable { path: folder.to_owned(), problem, remedy: LAYOUT });
    }
    Ok(names)
}

fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The images of one class, sorted by name.
fn entries(folder: &Path, class: usize) -> Result<Vec<Entry>, DataError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let path = entry.map_err(|source| unreadable(folder, source))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            let problem = "a folder where images of one class are expected".to_owned();
            return Err(DataError::Unusable { path, problem, remedy: LAYOUT });
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if !matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png")) {
            let problem = "the name does not end in .jpg, .jpeg or .png".to_owned();
            return Err(DataError::Unusable { path, problem, remedy: "move it away or convert it" });
        }
        let metadata = fs::metadata(&path).map_err(|source| unreadable(&path, source))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default().as_nanos();
        entries.push(Entry { path, class: class as u16, size: metadata.len(), modified });
    }
    if entries.is_empty() {
        let problem = "no image in there".to_owned();
        return Err(DataError::Unusable { path: folder.to_owned(), problem, remedy: LAYOUT });
    }
    entries.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    Ok(entries)
}

fn unreadable(path: &Path, source: io::Error) -> DataError {
    DataError::Io { path: path.to_owned(), source, remedy: "check that it exists and may be read" }
}

/// What the decoded images depend on: this version of the program, and name, size and time of every file.
fn key(folder: &Path, listing: &Listing) -> u64 {
    let mut digest = CRC.digest();
    digest.update(env!("CARGO_PKG_VERSION").as_bytes());
    for (set, entries) in [(0u8, &listing.train), (1, &listing.test)] {
        for entry in entries {
            let name = entry.path.strip_prefix(folder).unwrap_or(&entry.path).as_os_str().as_encoded_bytes();
            digest.update(&[set]);
            digest.update(&(name.len() as u64).to_le_bytes());
            digest.update(name);
            digest.update(&entry.size.to_le_bytes());
            digest.update(&entry.modified.to_le_bytes());
        }
    }
    digest.finalize()
}

/// Decodes all images, in parallel.
fn decode(listing: &Listing, options: &LoadOptions) -> Result<[Dataset; 2], DataError> {
    // Sorted by class, the halves of the set would have different classes: the order is a fixed permutation instead.
    let mixed = |entries: &Vec<Entry>| {
        let mut order: Vec<_> = (0..entries.len()).collect();
        shuffle(&mut generator(0, Purpose::FolderOrder, 0, 0), &mut order);
        order
    };
    let [train, test] = [&listing.train, &listing.test].map(|set| (set, mixed(set)));
    let entries: Vec<&Entry> =
        [&train, &test].into_iter().flat_map(|(set, order)| order.iter().map(|&index| &set[index])).collect();
    let first = &listing.train[0].path;
    let (width, height) = open(first, &read(first)?)?.dimensions();
    let mut shape = ImageShape::new(height as usize, width as usize, 3);
    let bytes = u128::from(width) * u128::from(height) * 3 * entries.len() as u128;
    if bytes > u128::from(MOST_BYTES) {
        let problem = format!("{} images of {height}×{width} take {} GiB in memory", entries.len(), bytes >> 30);
        let remedy = "scale them down; at most 16 GiB are decoded";
        return Err(DataError::Unusable { path: first.clone(), problem, remedy });
    }
    let mut pixels = vec![0; bytes as usize];
    let any_colour = AtomicBool::new(false);
    let task = options.progress.task("decoding images", entries.len() as u64);
    pixels.par_chunks_exact_mut(shape.len()).zip(&entries).try_for_each(|(output, entry)| {
        let is_colour = decode_one(&entry.path, first, (width, height), output)?;
        any_colour.fetch_or(is_colour, Ordering::Relaxed);
        task.advance(1);
        Ok(())
    })?;
    if !any_colour.into_inner() {
        // All three channels of a grey pixel are equal.
        pixels = pixels.into_iter().step_by(3).collect();
        shape.channels = 1;
    }
    let test_pixels = pixels.split_off(listing.train.len() * shape.len());
    let labels = |(set, order): &(&Vec<Entry>, Vec<usize>)| order.iter().map(|&index| set[index].class).collect();
    Ok([
        Dataset::new(shape, pixels, labels(&train), listing.class_names.clone()),
        Dataset::new(shape, test_pixels, labels(&test), listing.class_names.clone()),
    ])
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| unreadable(path, source))
}

/// Reads the header of an image, which must be whole; which of the two formats it has is told from its content.
fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<impl ImageDecoder + 'a, DataError> {
    if is_truncated(bytes) {
        return Err(undecodable(path, "truncated: its end marker is missing"));
    }
    let reader = ImageReader::new(Cursor::new(bytes));
    let decoder = reader.with_guessed_format().map_err(image::ImageError::IoError).and_then(ImageReader::into_decoder);
    decoder.map_err(|error| undecodable(path, &error.to_string()))
}

/// Writes the image at `path` to `output` `[H, W, 3]`; `true` if it has colour.
fn decode_one(path: &Path, first: &Path, size: (u32, u32), output: &mut [u8]) -> Result<bool, DataError> {
    let bytes = read(path)?;
    let decoder = open(path, &bytes)?;
    let (width, height) = decoder.dimensions();
    if (width, height) != size {
        let (first, expected) = (first.display(), format!("{}×{}", size.1, size.0));
        let problem = format!("the image is {height}×{width} (height, width), but {first} is {expected}");
        return Err(DataError::Unusable { path: path.to_owned(), problem, remedy: "scale all images to one size" });
    }
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| undecodable(path, &error.to_string()))?;
    output.copy_from_slice(&decoded.to_rgb8());
    Ok(decoded.color().has_color())
}

fn undecodable(path: &Path, reason: &str) -> DataError {
    let problem = format!("not a whole JPEG or PNG image ({})", reason.replace('\n', " "));
    DataError::Unusable { path: path.to_owned(), problem, remedy: "replace or remove it" }
}
