"""Search, training, test and pretraining of classifiers: what main_*_{mmimdb,ntu,ego}.py call."""
