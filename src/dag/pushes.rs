//! What is sent to the remote, in the background, as nodes are made. Uses nothing of how nodes run.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Scope;

use crate::digest::ActionKey;
use crate::error::{Result, no_thread};
use crate::job::Message;
use crate::object_store::Integrity;
use crate::stop::Stop;
use crate::store::Store;

/// Artefacts that are sent at once.
const AT_ONCE: usize = 2;

/// The threads that send what is made. They end when this is dropped and nothing is left to send.
pub(super) struct Pushes {
    sender: Sender<(usize, ActionKey)>,
    /// How many artefacts are not sent yet.
    open: usize,
}

impl Pushes {
    /// Starts the threads, if the store has a remote that takes something. Each end is a message.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        store: &'scope Store,
        stop: &Stop,
        said: &Sender<Message>,
    ) -> Result<Option<Self>> {
        if !store.remote().is_some_and(|remote| remote.is_writable()) {
            return Ok(None);
        }
        let (sender, made) = channel();
        let made = Arc::new(Mutex::new(made));
        for _ in 0..AT_ONCE {
            let (made, stop, said) = (made.clone(), stop.clone(), said.clone());
            std::thread::Builder::new()
                .name("pushes".into())
                .spawn_scoped(scope, move || work(store, &made, &stop, &said))
                .map_err(|error| no_thread("a thread", error))?;
        }
        Ok(Some(Pushes { sender, open: 0 }))
    }

    /// Sends what the node at this position has made.
    pub(super) fn push(&mut self, at: usize, key: ActionKey) {
        self.open += 1;
        self.sender.send((at, key)).expect("the threads receive as long as this is there");
    }

    /// Something was sent, or need not be.
    pub(super) fn one_less(&mut self) {
        self.open -= 1;
    }

    /// How many artefacts are not sent yet.
    pub(super) fn open(&self) -> usize {
        self.open
    }
}

fn work(
    store: &Store,
    made: &Mutex<Receiver<(usize, ActionKey)>>,
    stop: &Stop,
    said: &Sender<Message>,
) {
    loop {
        let next = made.lock().expect("nothing panics while it waits").recv();
        let Ok((at, key)) = next else { return };
        let sent = push(store, key, stop);
        // The scheduler listens until everything is sent.
        let _ = said.send(Message::Pushed(at, sent));
    }
}

/// Sends the artefact of a key, if it is whole; the bytes that were sent, if it was not there.
fn push(store: &Store, key: ActionKey, stop: &Stop) -> Option<u64> {
    let entry = store.entry(key).ok()??;
    if store.check_object(entry.object).ok()? != Integrity::Sound {
        return None;
    }
    store.remote()?.push(&entry, &store.object_path(entry.object), &|| stop.requested())
}
