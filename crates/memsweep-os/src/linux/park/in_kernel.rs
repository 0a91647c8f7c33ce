//! Memory that the kernel itself may be writing to, for a thread that waits in a system call.
//!
//! A read that goes around the page cache fixes the pages it will fill before it waits, and what a device
//! stores there later is noted in no page table. So it is asked which addresses each thread has handed to
//! the kernel. What was handed over and waited for elsewhere (asynchronous input and output) is not seen.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::process::{RawPid, getpid};

/// Calls whose argument leads to a list of addresses: one step away, and two.
const LISTS: [libc::c_long; 4] =
    [libc::SYS_readv, libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_process_vm_readv];
const MESSAGES: [libc::c_long; 2] = [libc::SYS_recvmsg, libc::SYS_recvmmsg];
/// Calls in which threads wait for long, and how many arguments they take. The kernel shows six registers:
/// those behind a call's own hold whatever the thread computed with last, and that is often an address.
const TAKEN: &[(libc::c_long, usize)] = &[
    (libc::SYS_read, 3),
    (libc::SYS_nanosleep, 2),
    (libc::SYS_clock_nanosleep, 4),
    (libc::SYS_ppoll, 5),
    (libc::SYS_accept, 3),
    (libc::SYS_accept4, 4),
    (libc::SYS_wait4, 4),
    (libc::SYS_rt_sigtimedwait, 4),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, 3),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, 4),
];
/// How many words of a list are looked at.
const WORDS: usize = 128;

/// Addresses that threads have handed to the kernel; sorted. `None` where that cannot be read.
pub(super) fn addresses(proc: &Path) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for task in fs::read_dir(proc.join("self/task")).ok()? {
        let path = task.ok()?.path().join("syscall");
        match fs::read_to_string(&path) {
            Ok(text) => add(&text, &mut found),
            // A thread that has ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(_) => return None,
        }
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// `0 0x3 0x7f0000001000 0x1000 0x0 0x0 0x0 <stack> <instruction>`; `running`, or -1 outside of a call.
fn add(text: &str, found: &mut Vec<usize>) {
    let mut words = text.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<libc::c_long>().ok()) else {
        return;
    };
    let mut arguments: Vec<usize> = words.take(6).filter_map(hexadecimal).collect();
    arguments.truncate(taken(number, &arguments));
    if LISTS.contains(&number) || MESSAGES.contains(&number) {
        for &argument in &arguments {
            let listed = read(argument);
            if MESSAGES.contains(&number) {
                listed.iter().for_each(|&at| found.extend(read(at)));
            }
            found.extend(listed);
        }
    }
    found.extend(arguments);
}

fn taken(number: libc::c_long, arguments: &[usize]) -> usize {
    if number == libc::SYS_futex {
        // Where a thread only waits for a word to change, the kernel writes nothing.
        let waits = arguments.get(1).is_some_and(|&operation| {
            let operation = operation as libc::c_int & libc::FUTEX_CMD_MASK;
            [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET].contains(&operation)
        });
        return if waits { 0 } else { 6 };
    }
    TAKEN.iter().find(|(call, _)| *call == number).map_or(6, |&(_, count)| count)
}

fn hexadecimal(word: &str) -> Option<usize> {
    usize::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// What lies at an address of our own, as far as there is something.
fn read(address: usize) -> Vec<usize> {
    let mut words = [0_usize; WORDS];
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
    let remote =
        libc::iovec { iov_base: address as *mut libc::c_void, iov_len: size_of_val(&words) };
    let own: RawPid = getpid().as_raw_nonzero().get();
    // SAFETY: the kernel writes into `words` alone, and answers with an error where nothing is mapped.
    let bytes =
        unsafe { libc::process_vm_readv(own, &raw const local, 1, &raw const remote, 1, 0) };
    let count = usize::try_from(bytes).unwrap_or(0) / size_of::<usize>();
    words[..count].iter().copied().filter(|&word| word > 4096).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn reads_into(call: impl Fn(&mut UnixStream, &mut [u8]) -> usize + Send + Sync) {
        let (mut reader, mut writer) = UnixStream::pair().unwrap();
        let mut memory = vec![0_u8; 1 << 20];
        let address = memory.as_ptr() as usize + 4096;
        thread::scope(|scope| {
            let reading = scope.spawn(|| call(&mut reader, &mut memory[4096..]));
            let mut seen = false;
            for _ in 0..200 {
                thread::sleep(Duration::from_millis(5));
                seen = addresses(Path::new("/proc")).unwrap().contains(&address);
                if seen {
                    break;
                }
            }
            writer.write_all(b"x").unwrap();
            assert_eq!(reading.join().unwrap(), 1);
            assert!(seen);
        });
        // What a call of another test's thread leads to may hold the address by chance, as long as that call lasts.
        let is_gone = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(5));
            !addresses(Path::new("/proc")).unwrap().contains(&address)
        });
        assert!(is_gone);
    }

    #[test]
    fn where_a_thread_reads_to_is_seen() {
        reads_into(|stream, memory| stream.read(memory).unwrap());
        reads_into(|stream, memory| stream.read_vectored(&mut [IoSliceMut::new(memory)]).unwrap());
    }

    #[test]
    fn where_a_thread_receives_to_is_seen() {
        reads_into(|stream, memory| {
            let mut part =
                libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
            // SAFETY: all zeros is an empty message; the part is memory that we hold.
            let bytes = unsafe {
                let mut message: libc::msghdr = std::mem::zeroed();
                message.msg_iov = &raw mut part;
                message.msg_iovlen = 1;
                libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0)
            };
            usize::try_from(bytes).unwrap()
        });
    }

    #[test]
    fn what_a_call_does_not_take_is_no_address() {
        let shown = |number: libc::c_long, operation: libc::c_int| {
            let mut found = Vec::new();
            add(&format!("{number} 0xa0 {operation:#x} 0xa2 0xa3 0xa4 0xa5 0x7f 0x7e"), &mut found);
            found.retain(|&address| (0xa0..0xb0).contains(&address));
            found.len()
        };
        assert_eq!(shown(libc::SYS_read, 0xa1), 3);
        // The second argument says what is asked for.
        assert_eq!(shown(libc::SYS_futex, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG), 0);
        assert_eq!(shown(libc::SYS_futex, libc::FUTEX_WAIT_REQUEUE_PI), 5);
        assert_eq!(shown(libc::SYS_io_getevents, 0xa1), 6);
    }

    #[test]
    fn odd_lines_give_nothing() {
        for text in ["", "running\n", "-1 0x7ffd 0x7f00\n", "x y z", "0 1 2 3", "0"] {
            let mut found = Vec::new();
            add(text, &mut found);
            found.retain(|&address| address != 0x7ffd && address != 0x7f00);
            assert!(found.is_empty(), "{text}: {found:?}");
        }
    }
}
