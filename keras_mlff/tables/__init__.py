"""Tables: trainings, errors, predictions, presets, statistics and published numbers.

Each function whose name ends in `_table`, and `training_log`, returns a `pandas.DataFrame`. Units
are in a column `unit` or, where a column has one unit throughout, in `frame.attrs["units"]`.
Functions whose name ends in `_rows` return the same as plain dicts, without pandas.

    errors = tables.errors_table(structures, model.predict(structures), by="element")
    errors.to_latex("errors.tex")
"""

from keras_mlff.tables.errors import error_rows as error_rows
from keras_mlff.tables.errors import errors_table as errors_table
from keras_mlff.tables.frames import write_rows as write_rows
from keras_mlff.tables.predictions import prediction_rows as prediction_rows
from keras_mlff.tables.predictions import predictions_table as predictions_table
from keras_mlff.tables.statistics import statistics_rows as statistics_rows
from keras_mlff.tables.statistics import statistics_table as statistics_table
from keras_mlff.tables.trainings import preset_rows as preset_rows
from keras_mlff.tables.trainings import presets_table as presets_table
from keras_mlff.tables.trainings import result_rows as result_rows
from keras_mlff.tables.trainings import results_table as results_table
from keras_mlff.tables.trainings import training_log as training_log
