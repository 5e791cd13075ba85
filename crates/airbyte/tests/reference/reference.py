"""The reference interpreter as a program: jobs come as JSON lines {argv, cwd, out, err}, one process each; the answer is its exit code."""
import json, os, signal, sys, time


def main():
    import airbyte_cdk.entrypoint as entrypoint
    from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource as Source
    from airbyte_cdk.sources.declarative.yaml_declarative_source import YamlDeclarativeSource  # noqa: F401
    from airbyte_cdk.utils.yaml_loader import safe_load_yaml
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(job, entrypoint, Source, safe_load_yaml)
        _, status = os.waitpid(pid, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def run(job, entrypoint, Source, load):
    signal.alarm(job["timeout"])
    os.chdir(job["cwd"])
    sys.path.insert(0, job["cwd"])
    os.dup2(os.open(job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(os.open(job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    really = time.sleep
    time.sleep = lambda seconds: really(min(seconds, 0.002))
    code = 0
    try:
        args = job["argv"]
        parsed = entrypoint.AirbyteEntrypoint.parse_args(args)
        given = lambda name, read, default: read(getattr(parsed, name)) if getattr(parsed, name, None) else default  # noqa: E731
        with open("manifest.yaml", encoding="utf-8") as f:
            manifest = load(f)
        source = Source(config=given("config", Source.read_config, None), catalog=given("catalog", Source.read_catalog, None),
                        state=given("state", Source.read_state, []), source_config=manifest, config_path=getattr(parsed, "config", None))
        entrypoint.launch(source, args)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as end:  # noqa
        import traceback
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


main()
