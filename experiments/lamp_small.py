"""HYDRA on several tasks of LaMP: a kind of run whose parts are runs of HYDRA. `configs/lamp_small.py` tells of it."""

from experiments.reports import page
from hydrajax.runs import lamp

compute, plan = lamp.compute, lamp.plan
together, write_report, text_table, verdicts = page.together, page.write_report, page.text_table, page.verdicts
