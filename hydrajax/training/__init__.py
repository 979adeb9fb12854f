"""Training: the train step, the head bank, fits and checkpoints. It needs features, nothing else of the package.

`fit` is the short way: examples in, heads and scores out.

>>> import numpy as np
>>> from hydrajax.training import fit
>>> rng = np.random.default_rng(0)
>>> taste = rng.normal(size=(20, 8))                      # 20 users who like different things
>>> user = np.repeat(np.arange(20), 30)                   # 30 examples of each
>>> x = rng.normal(size=(600, 8))                         # features of your own
>>> score = (x * taste[user]).sum(axis=1)
>>> examples = fit.Examples(user=user, x=x, extras=np.zeros((600, 0)), label=score > 0, score=score, pool=user)
>>> config = fit.FitConfig(family="linear", prior_strength=1.0)
>>> fitted = fit.pretrain(config, examples, 20)           # what new users start with
>>> heads = fit.personalise(config, fitted, examples, 20)
>>> own = fit.predict(fitted, heads, user, x, np.zeros((600, 0)))
>>> pooled = fit.predict(fitted, None, user, x, np.zeros((600, 0)))
>>> bool(np.mean((own > 0) == (score > 0)) > 0.9 > 0.7 > np.mean((pooled > 0) == (score > 0)))
True

`step.make_train_step` is the long way: the step itself, pure and un-jitted, for loops of your own.
"""
