"""hydrajax: personalise a black-box LLM with a shared base encoder and one small head per user.

Importing the package compiles nothing, opens no file and reaches no network: import the part that you need
(`from hydrajax import training`), each is a stop on the way of the data.
"""

__version__ = "0.1.0"
