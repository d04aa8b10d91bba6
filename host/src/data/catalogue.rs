//! The data sets that the program knows by name: where they are to be had, what is in them, and how to tell that it is
//! right.

use std::path::{Path, PathBuf};

use super::{DataError, cache};

/// A file as it is fetched.
#[derive(Debug)]
pub struct RemoteFile {
    /// Its name below a mirror, and in the cache.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
}

/// A file of a data set, not compressed.
#[derive(Debug)]
pub struct Content {
    /// Its name; compressed, it ends in `.gz` too.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
}

/// How the files that are fetched become a data set.
#[derive(Debug)]
pub enum Packing {
    /// They are its files, gzipped, and stay so.
    Gzipped,
    /// They are `tar.gz` archives with the contents in them, and with these files beside.
    Archive(&'static [&'static str]),
}

/// A package of Debian that has the data set.
#[derive(Debug)]
pub struct DebianPackage {
    /// The package.
    pub name: &'static str,
    /// Where it puts the files.
    pub folder: &'static str,
}

/// A data set with a name.
#[derive(Debug)]
pub struct KnownSet {
    /// What it is called on the command line and in the cache.
    pub name: &'static str,
    /// What its makers call it.
    pub title: &'static str,
    /// What it is, in a few words.
    pub summary: &'static str,
    /// What is fetched.
    pub remote: &'static [RemoteFile],
    /// What has to be done with it then.
    pub packing: Packing,
    /// The files that it is read from.
    pub contents: &'static [Content],
    /// Folders on the web that have the files of `remote`, in the order in which they are tried.
    pub mirrors: &'static [&'static str],
    /// Where Debian has it.
    pub debian: Option<DebianPackage>,
    /// How one gets it.
    pub remedy: &'static str,
}

impl KnownSet {
    /// Its folder in the cache.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(self.name)
    }

    /// Where its files are: in the cache, or where Debian's package puts them.
    pub fn place(&self, cache: Option<&Path>) -> Option<PathBuf> {
        let cached = cache.map(|cache| self.folder(cache));
        let packaged = self.debian.as_ref().map(|package| PathBuf::from(package.folder));
        [cached, packaged].into_iter().flatten().find(|folder| self.is_in(folder))
    }

    /// Whether `folder` has all of its files. What is in them is not looked at.
    pub fn is_in(&self, folder: &Path) -> bool {
        let beside = match self.packing {
            Packing::Gzipped => &[],
            Packing::Archive(beside) => beside,
        };
        self.contents.iter().map(|content| content.name).all(|name| stored(folder, name).is_some())
            && beside.iter().all(|name| folder.join(name).exists())
    }

    /// Bytes to be fetched.
    pub fn remote_bytes(&self) -> u64 {
        self.remote.iter().map(|file| file.bytes).sum()
    }
}

/// The file `name` in `folder`, plain or gzipped.
pub(super) fn stored(folder: &Path, name: &str) -> Option<PathBuf> {
    let gzipped = format!("{name}.gz");
    [name, &gzipped].into_iter().map(|name| folder.join(name)).find(|path| path.exists())
}

/// The set of this name, in upper or lower case, with or without hyphens.
pub fn find(name: &str) -> Option<&'static KnownSet> {
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    KNOWN_SETS.iter().find(|set| plain(set.name) == plain(name))
}

/// The folder of the data set that `spec` stands for: `spec` itself where that is there or no name, else where the set
/// of that name was found, in `cache_folder` or from Debian's package.
///
/// # Errors
/// If the set of that name is not there yet; the message says how to get it.
pub fn locate(spec: &str, cache_folder: Option<&Path>) -> Result<PathBuf, DataError> {
    let path = PathBuf::from(spec);
    let Some(set) = find(spec).filter(|_| !path.exists()) else {
        return Ok(path);
    };
    let cache = cache_folder.map(Path::to_owned).or_else(cache::default_folder);
    set.place(cache.as_deref()).ok_or_else(|| {
        let problem = format!("there is no such folder, and {} is not in the cache", set.title);
        DataError::Unusable { path, problem, remedy: set.remedy }
    })
}

macro_rules! files {
    ($kind:ident: $($name:literal, $bytes:literal, $sha256:literal;)*) => {
        &[$($kind { name: $name, bytes: $bytes, sha256: $sha256 }),*]
    };
}

/// All of them. The digests are published ones. Those of what is fetched were found in more than one place; those of
/// CIFAR-10's unpacked files in two listings that may be versions of one, those of CIFAR-100's in a single one. Those
/// of Fashion-MNIST were checked on the files themselves, compressed and not.
pub const KNOWN_SETS: [KnownSet; 4] = [FASHION_MNIST, MNIST, CIFAR_10, CIFAR_100];

const FASHION_MNIST: KnownSet = KnownSet {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    summary: "60,000 + 10,000 grey images of 28×28, 10 classes of clothes",
    remote: files! { RemoteFile:
        "train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84";
        "train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845";
        "t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073";
        "t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5";
    },
    packing: Packing::Gzipped,
    contents: files! { Content:
        "train-images-idx3-ubyte", 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888";
        "train-labels-idx1-ubyte", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9";
        "t10k-images-idx3-ubyte", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b";
        "t10k-labels-idx1-ubyte", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34";
    },
    mirrors: &[
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ],
    debian: Some(DebianPackage { name: "dataset-fashion-mnist", folder: "/usr/share/datasets/fashion-mnist" }),
    remedy: "fetch it with `darts data get fashion-mnist`, or on Debian with `apt-get install dataset-fashion-mnist`",
};

const MNIST: KnownSet = KnownSet {
    name: "mnist",
    title: "MNIST",
    summary: "60,000 + 10,000 grey images of 28×28, 10 digits",
    remote: files! { RemoteFile:
        "train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609";
        "train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c";
        "t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6";
        "t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6";
    },
    packing: Packing::Gzipped,
    contents: files! { Content:
        "train-images-idx3-ubyte", 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db";
        "train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5";
        "t10k-images-idx3-ubyte", 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7";
        "t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2";
    },
    mirrors: &["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    debian: None,
    remedy: "fetch it with `darts data get mnist`",
};

const CIFAR_10: KnownSet = KnownSet {
    name: "cifar-10",
    title: "CIFAR-10",
    summary: "50,000 + 10,000 colour images of 32×32, 10 classes",
    remote: files! { RemoteFile:
        "cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";
    },
    packing: Packing::Archive(&[]),
    contents: files! { Content:
        "data_batch_1.bin", 30_730_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5";
        "data_batch_2.bin", 30_730_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed";
        "data_batch_3.bin", 30_730_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67";
        "data_batch_4.bin", 30_730_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48";
        "data_batch_5.bin", 30_730_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add";
        "test_batch.bin", 30_730_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b";
    },
    mirrors: &[
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ],
    debian: None,
    remedy: "fetch it with `darts data get cifar-10`",
};

const CIFAR_100: KnownSet = KnownSet {
    name: "cifar-100",
    title: "CIFAR-100",
    summary: "50,000 + 10,000 colour images of 32×32, 100 classes",
    remote: files! { RemoteFile:
        "cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec";
    },
    packing: Packing::Archive(&["fine_label_names.txt"]),
    contents: files! { Content:
        "train.bin", 153_700_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29";
        "test.bin", 30_740_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a";
    },
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    debian: None,
    remedy: "fetch it with `darts data get cifar-100`",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_written() {
        for (name, title) in [("cifar10", "CIFAR-10"), ("CIFAR-100", "CIFAR-100"), ("fashion_mnist", "Fashion-MNIST")] {
            assert_eq!(find(name).map(|set| set.title), Some(title), "{name}");
        }
        assert!(find("embedded").is_none() && find("cifar").is_none() && find("").is_none());
    }

    #[test]
    fn every_set_can_be_had_and_told() {
        for set in &KNOWN_SETS {
            let digests = set.remote.iter().map(|file| file.sha256).chain(set.contents.iter().map(|file| file.sha256));
            for digest in digests {
                assert!(
                    digest.len() == 64 && digest.bytes().all(|digit| b"0123456789abcdef".contains(&digit)),
                    "{digest}"
                );
            }
            assert!(set.mirrors.iter().all(|mirror| mirror.starts_with("https://") && mirror.ends_with('/')));
            assert!(set.remedy.contains(&format!("darts data get {}`", set.name)));
        }
    }
}
