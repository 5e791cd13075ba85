//! Bad input with files: broken CSV and Parquet, full disks, missing folders.

use std::{path::PathBuf, process::Command};

use crate::program::{Place, counts};

#[test]
fn a_csv_that_is_not_utf8_is_placed() {
    let place = Place::new();
    place.write("x.csv", b"id,name\n1,good\n2,b\xffad\n");
    let said = place.run(&["sync", "./x.csv?encoding=utf-8", "sqlite:./out.db"]).refuses(7, &["x.csv:3", "encoding"]);
    assert!(!said.err.contains("ad\n"), "values are not shown");
}

#[test]
fn rows_that_are_left_out_are_counted_and_listed_by_place() {
    let place = Place::new();
    place.write("x.csv", b"id,name\n1,good\n2,b\xffad-canary\n3,fine\n");
    let said = place.run(&["sync", "./x.csv?encoding=utf-8&bad_rows=skip", "sqlite:./out.db"]).succeeds();
    assert!(said.err.contains("rejected rows are listed in"), "{said:#?}");
    assert_eq!(place.sqlite("out.db", "SELECT count(*) FROM x"), "2");
    let list = said.err.lines().find_map(|l| l.strip_prefix("rejected rows are listed in ")).unwrap();
    let listed = std::fs::read_to_string(list).unwrap();
    assert!(listed.contains("x.csv:3") && !listed.contains("canary"), "{listed}");
}

#[test]
fn a_truncated_parquet_file_is_refused() {
    let place = Place::new();
    place.run(&["sync", "faker:?customers=2000&orders=0", "parquet:./good", "--stream", "customers"]).succeeds();
    let mut files = vec![place.path("good")];
    let whole = loop {
        let Some(at) = files.pop() else { panic!("a Parquet file was written") };
        if at.is_dir() {
            files.extend(std::fs::read_dir(at).unwrap().map(|f| f.unwrap().path()));
        } else if at.extension().is_some_and(|e| e == "parquet") {
            break std::fs::read(at).unwrap();
        }
    };
    for length in [0, 3, whole.len() / 2, whole.len() - 1] {
        place.write("x.parquet", &whole[..length]);
        place.run(&["sync", "./x.parquet", "sqlite:./out.db"]).refuses(7, &["x.parquet"]);
    }
    place.write("x.parquet", &whole);
    place.run(&["sync", "./x.parquet", "sqlite:./out.db"]).succeeds();
}

#[test]
fn a_file_that_is_not_there_is_not_found() {
    let place = Place::new();
    place.run(&["sync", "./nope.csv", "sqlite:./out.db"]).refuses(4, &["nope.csv"]);
    place.run(&["sync", "sqlite:./nope.db", "parquet:./out"]).refuses(4, &["nope.db"]);
    place.run(&["sync", "faker:", "sqlite:./no/such/folder/x.db"]).refuses(4, &["no/such/folder"]);
    place.write("notes.txt", "hello");
    place.run(&["sync", "./notes.txt", "stdout:"]).refuses(2, &["csv:./notes.txt"]);
    assert!(!place.path("nope.db").exists());
}

/// A small file system of its own, where this user may mount one; gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|o| o.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

const ROWS: &str = "'faker:?customers=200000&orders=0'";

#[test]
fn a_full_disk_says_so_and_the_next_run_goes_on() {
    for to in ["parquet:./disk/out", "sqlite:./disk/out.db", "jsonl:./disk/out"] {
        let place = Place::new();
        let Some(disk) = SmallDisk::mount(place.path("disk"), "1m") else {
            println!("skipped: this user may not mount a small disk");
            return;
        };
        let full = place.shell(&format!("linkspan sync {ROWS} {to} --stream customers --output json"));
        assert_eq!(full.code, 8, "{to}: {full:#?}");
        assert!(full.out.contains("storage_full") && full.out.contains("suggested_fix"), "{full:#?}");
        let larger = Command::new("mount").args(["-o", "remount,size=256m"]).arg(&disk.0).status().unwrap();
        assert!(larger.success());
        let after = place.shell(&format!("linkspan sync {ROWS} {to} --stream customers --output json")).succeeds().summary();
        assert_eq!(counts(&after, "customers"), (200_000, 200_000), "{after:#}");
    }
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let place = Place::new();
    for to in ["parquet:./out", "jsonl:./out"] {
        let full = place.shell(&format!("ulimit -f 1024; linkspan sync {ROWS} {to} --stream customers --output json"));
        assert_eq!(full.code, 8, "{to}: {full:#?}");
        place.shell(&format!("linkspan sync {ROWS} {to} --stream customers")).succeeds();
    }
}

#[test]
fn an_sqlite_table_of_somebody_else_is_left_as_it_is() {
    let place = Place::new();
    rusqlite::Connection::open(place.path("out.db"))
        .unwrap()
        .execute_batch("CREATE TABLE customers (id TEXT, other INT NOT NULL); INSERT INTO customers VALUES ('mine', 1)")
        .unwrap();
    for mode in ["full", "incremental"] {
        let said = place.run(&["sync", "faker:?customers=9&orders=0", "sqlite:./out.db", "--stream", "customers", "--mode", mode]);
        assert!(matches!(said.code, 6 | 7) && said.err.contains("fix:") && said.err.contains("customers"), "{said:#?}");
        assert_eq!(place.sqlite("out.db", "SELECT * FROM customers"), "mine|1");
    }
}
