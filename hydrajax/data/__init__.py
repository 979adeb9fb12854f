"""Where users and queries come from: LaMP, files of one's own, simulated users; and how they are divided.

`tasks` is the table of tasks. `lamp`, `tfds_lamp`, `custom` and `simulated` give a `Split`; `folds` divides users;
`pseudo` turns records into queries. Nothing is imported here: `tfds_lamp` alone needs TensorFlow Datasets.
"""
