"""Strict mode for every test: what is sloppy raises, and nothing leaves the machine."""

import ipaddress
import logging
import os
import pathlib
import shutil
import socket
import tempfile

# Before jax, XLA and transformers are imported, which read them once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the tests' time goes into compiling small programs, which need not be fast; what is given stays.
_GIVEN = os.environ.get("XLA_FLAGS", "").split()
_QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
_NAMES = {flag.partition("=")[0] for flag in _GIVEN}
os.environ["XLA_FLAGS"] = " ".join([*_GIVEN, *(flag for flag in _QUICK if flag.partition("=")[0] not in _NAMES)])
# What one process has compiled, the others need not: by default for one run of the tests, which all its processes know.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")
_COMPILED = pathlib.Path(os.environ.get("HYDRAJAX_TEST_COMPILED", pathlib.Path(tempfile.gettempdir(), f"jax-{_RUN}")))

import beartype  # noqa: E402
import beartype.claw  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402


def _check_types() -> None:
    """Every call in hydrajax is checked: shapes where a module has any, types alone in the others, since jaxtyping's
    wrapper, which compares the shapes of a call, costs more than most functions. It can be switched off for a test,
    which is how the tests of `nn` give wrong types, and it looks at what a jitted function is traced with."""
    package = pathlib.Path(__file__).parents[1] / "hydrajax"
    shapes: list[str] = []
    types: list[str] = []
    for path in package.rglob("*.py"):
        if path.name == "__init__.py":  # its name would stand for all that is below
            continue
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        whole = path.parent in (package, package / "nn") or "training" in path.parts or "jaxtyping" in path.read_text()
        (shapes if whole else types).append(name)
    jaxtyping.install_import_hook(shapes, "beartype.beartype")
    lighter = beartype.BeartypeConf(claw_is_pep526=False, violation_type=jaxtyping.TypeCheckError)
    beartype.claw.beartype_packages(types, conf=lighter)


_check_types()

from hydrajax.nn import backends  # noqa: E402

FAKE_DEVICES = 4

jax.config.update("jax_num_cpu_devices", FAKE_DEVICES)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(_COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _is_local(address) -> bool:
    if not isinstance(address, tuple):  # the path of a Unix socket
        return True
    host = address[0]
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A connection to anything but the loopback interface fails at once, and so does the look-up of a name."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(address):
        raise OSError(f"tests are offline: {address!r} is not on the loopback interface")

    def local_connect(self, address):
        return connect(self, address) if _is_local(address) else refuse(address)

    def local_connect_ex(self, address):
        return connect_ex(self, address) if _is_local(address) else refuse(address)

    def local_getaddrinfo(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        return getaddrinfo(host, *args, **kwargs) if name is None or _is_local((name,)) else refuse(name)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", local_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", local_getaddrinfo)


# What takes all devices by default gets one, in fixtures of a module or of the session, too: programs for several
# compile longer, and would be others than those of the tests.
backends._most = 1  # `use` would ask JAX for its devices, before anything needs them


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """A test may `use` more."""
    monkeypatch.setattr(backends, "_most", 1)


@pytest.fixture(autouse=True)
def _own_log():
    """The command line sets the package's log up; a test's own commands must not change it for the next test."""
    own = logging.getLogger("hydrajax")
    before = own.level, own.handlers, own.propagate
    yield
    own.setLevel(before[0])
    own.handlers, own.propagate = before[1:]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    """The default store of answers and the default cache of features are a fresh folder, never the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _no_api_key(monkeypatch):
    """A test cannot spend anybody's money."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _compiled_programs():
    """A run keeps compiled programs in its own cache, whose folder does not outlive the test."""
    yield
    jax.config.update("jax_compilation_cache_dir", str(_COMPILED))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_collection_modifyitems(items):
    """Long files first: what is done last, when other processes have nothing left, is short."""
    items.sort(key=lambda item: (-item.path.stat().st_size, item.path))


def pytest_sessionfinish(session):
    """The process that began the others removes what they have compiled."""
    if not hasattr(session.config, "workerinput") and "HYDRAJAX_TEST_COMPILED" not in os.environ:
        testrun = os.environ.get("PYTEST_XDIST_TESTRUNUID") or getattr(session.config, "testrunuid", None)
        shutil.rmtree(_COMPILED if testrun is None else _COMPILED.with_name(f"jax-{testrun}"), ignore_errors=True)
