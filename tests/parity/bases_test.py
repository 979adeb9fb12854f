"""Every architecture against the original, live, on random weights: layers, gradients, and back to a folder."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hydrajax.nn import weights
from hydrajax.nn.bases import blocks
from tests.parity import small

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=list(small.SMALL))
def both(request, tmp_path_factory):
    """(name, transformers' model, its folder)."""
    model = small.make(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return request.param, model, folder


def _layers(module, params, *inputs):
    """Every layer's output, by the names that start with `layer_`."""

    def run(params, *inputs):
        wanted = lambda inner, method: (inner.name or "").startswith("layer_")  # noqa: E731
        return module.apply({"params": params}, *inputs, capture_intermediates=wanted)

    out, state = jax.jit(run)(params, *inputs)
    found = state["intermediates"]
    return out, [found[f"layer_{i}"]["__call__"][0] for i in range(len(found))]


@pytest.mark.parametrize("settings", [{}, {"attention": "fused"}, {"remat": True}], ids=str)
def test_every_layer_agrees(both, settings):
    name, model, folder = both
    module, params = weights.from_pretrained(folder, blocks.Compute(**settings))
    ids, types, mask = small.texts(name)
    last, _, *layers = small.theirs(name, model, ids, types, mask)
    out, ours = _layers(module, params, jnp.asarray(ids), jnp.asarray(types), jnp.asarray(mask))
    np.testing.assert_allclose(np.asarray(out)[mask], last.detach().numpy()[mask], atol=1e-4)
    # Where the layers' outputs are listed, the last one may be normalised once more.
    for mine, other in list(zip(ours, layers, strict=True))[:-1]:
        np.testing.assert_allclose(np.asarray(mine)[mask], other.detach().numpy()[mask], atol=1e-4)


def test_gradients_agree(both):
    import torch

    name, model, folder = both
    module, params = weights.from_pretrained(folder)
    ids, types, mask = small.texts(name)
    goal = np.random.default_rng(1).normal(size=(*mask.shape, small.COMMON["hidden_size"])).astype(np.float32)
    goal *= mask[..., None]

    def loss(params):
        return jnp.sum(module.apply({"params": params}, jnp.asarray(ids), jnp.asarray(types), jnp.asarray(mask)) * goal)

    ours = jax.jit(jax.grad(loss))(params)
    model.zero_grad()
    last, *_ = small.theirs(name, model, ids, types, mask)
    (last * torch.tensor(goal)).sum().backward()
    table = weights.bases.get_of(module.config).tensors(module.config)
    places: dict[str, list] = {}
    for tensor, where in table.items():
        places.setdefault(where.place, []).append(tensor)
    parameters = dict(model.named_parameters())
    for place, names in places.items():
        leaf = ours
        for key in place.split("."):
            leaf = leaf[key]
        for tensor, mine in zip(names, np.split(np.asarray(leaf), len(names), axis=-1), strict=True):
            grad = parameters[tensor].grad
            other = np.zeros(table[tensor].shape, np.float32) if grad is None else grad.numpy()
            mine = mine.T if table[tensor].transposed else mine
            rows = slice(None)
            if "word_embeddings" in tensor or "tok_embeddings" in tensor or "position_embeddings" in tensor:
                # PyTorch gives the row of the padding no gradient.
                rows = np.arange(len(mine)) != small.SMALL[name].config.get("pad_token_id", 0)
            scale = max(1.0, float(np.abs(other).max()))
            np.testing.assert_allclose(mine[rows] / scale, other[rows] / scale, atol=1e-3, err_msg=tensor)


def test_a_saved_folder_is_loaded_by_transformers_with_equal_outputs(both, tmp_path):
    import torch
    import transformers

    name, model, folder = both
    module, params = weights.from_pretrained(folder)
    saved = tmp_path / "saved"
    weights.save_pretrained(saved, params, module.config, folder)
    again = transformers.AutoModel.from_pretrained(
        saved, local_files_only=True, use_safetensors=True, attn_implementation="eager"
    ).eval()
    ids, types, mask = small.texts(name)
    with torch.no_grad():
        before, after = (small.theirs(name, one, ids, types, mask)[0].numpy() for one in (model, again))
    np.testing.assert_array_equal(before[mask], after[mask])


def test_weights_in_several_files_are_the_same(both, tmp_path):
    name, model, folder = both
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    assert (tmp_path / weights.INDEX).is_file() and len(list(tmp_path.glob("*.safetensors"))) > 1
    whole, parts = (weights.from_pretrained(one)[1] for one in (folder, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    next(iter(tmp_path.glob("*.safetensors"))).unlink()
    with pytest.raises(weights.DataError, match="which is not in the folder"):
        weights.from_pretrained(tmp_path)
    shutil.rmtree(tmp_path)
