//! What was derived from objects, remembered so that their files need not be read again. A file of
//! it is only a saving of time: it is no part of an object, may be deleted at any time, and `gc`
//! deletes it with its object.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checked::{parsed, seal};
use crate::digest::ObjectId;
use crate::error::Result;
use crate::store::Store;

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Remembered<T> {
    /// What the value is, and the version of the code that derives it.
    form: String,
    value: T,
}

impl Store {
    /// What `derive` makes of the files of `object` and of nothing else, remembered. `form` names
    /// what that is, with a version. A file that is absent, broken or of another form is replaced,
    /// if the store may be written and a run has made its folders.
    ///
    /// # Errors
    /// Those of `derive`.
    pub fn derived<T: Serialize + DeserializeOwned>(
        &self,
        object: ObjectId,
        form: &str,
        derive: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let path = self.at("derived").join(format!("{object}.json"));
        let bytes = crate::fs::read_if_exists(&path).ok().flatten();
        let remembered = bytes.and_then(|bytes| parsed(&bytes));
        if let Some(Remembered { value, .. }) =
            remembered.filter(|found: &Remembered<T>| found.form == form)
        {
            return Ok(value);
        }
        let own = Remembered { form: form.to_owned(), value: derive()? };
        if let Ok(bytes) = serde_json::to_vec(&own) {
            // Only a saving of time; nothing is written where no run has made the folders.
            let _ = crate::fs::write_atomic(&path, &seal(bytes));
        }
        Ok(own.value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_value_is_derived_once_for_each_form_and_again_if_its_file_is_broken() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let object: ObjectId = "0".repeat(64).parse().expect("an id");
        let count = Cell::new(0);
        let value = |form: &str| {
            let derive = || {
                count.set(count.get() + 1);
                Ok(vec![0.1 + 0.2, count.get() as f64])
            };
            store.derived::<Vec<f64>>(object, form, derive).expect("it derives")
        };
        // No run has made the folders: nothing is remembered.
        assert_eq!((value("a"), value("a")), (vec![0.1 + 0.2, 1.0], vec![0.1 + 0.2, 2.0]));
        let derived = folder.path().join("v1/derived");
        std::fs::create_dir_all(&derived).expect("a folder");
        assert_eq!((value("a")[1], value("a")[1]), (3.0, 3.0));
        assert_eq!(value("a")[0], 0.1 + 0.2);
        assert_eq!((value("b")[1], value("b")[1], value("a")[1]), (4.0, 4.0, 5.0));
        std::fs::write(derived.join(format!("{object}.json")), "{").expect("it is written");
        assert_eq!((value("a")[1], value("a")[1]), (6.0, 6.0));
    }
}
