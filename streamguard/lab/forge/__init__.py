"""Forgeries made of real faces, each with its real partner and its mask: own code from the papers.

One family a module, one protocol for all (:mod:`streamguard.lab.forge.base`), one table of what there is and what
leaves a training together (:mod:`streamguard.lab.forge.table`). :mod:`streamguard.lab.forge.forger` draws them.
"""
