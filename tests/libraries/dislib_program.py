"""Uses estimators and operations of dislib; prints what each gave, as JSON. Names of those to run are arguments."""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")

import dislib as ds  # noqa: E402
from sklearn.datasets import make_blobs  # noqa: E402

samples, labels = make_blobs(n_samples=240, random_state=170, n_features=4, centers=3)
x = ds.array(samples, block_size=(60, 2))
y = ds.array(labels[:, None].astype(float), block_size=(60, 1))
whole_rows = ds.array(samples, block_size=(60, 4))
matrix = np.random.RandomState(0).rand(12, 6)


def matmul():
    return (x.T @ x).collect()


def transpose_and_slice():
    return x.transpose().collect()[:2, :5], x[10:30, 1:3].collect(), ds.concat_columns(x, x).collect()[3]


def kron():
    from dislib.math import kron

    return kron(ds.array(matrix[:4, :2], (2, 2)), ds.array(np.eye(2), (1, 1))).collect()


def qr():
    from dislib.decomposition import tsqr

    q, r = tsqr(ds.array(np.random.RandomState(0).rand(32, 4), (8, 4)))
    return np.abs((q @ r).collect()), np.abs(r.collect())


def svd():
    from dislib.math import svd

    return svd(ds.array(matrix, (4, 2)))[1].collect()


def pca():
    from dislib.decomposition import PCA

    return PCA(n_components=2).fit(x).explained_variance_.collect()


def k_means():
    from dislib.cluster import KMeans

    model = KMeans(n_clusters=3, random_state=1)
    model.fit(x)
    path = Path(tempfile.mkdtemp()) / "model.json"
    model.save_model(str(path))
    loaded = KMeans()
    loaded.load_model(str(path))
    return model.centers, loaded.predict(x).collect()


def dbscan():
    from dislib.cluster import DBSCAN

    return DBSCAN(eps=1.2, n_regions=2).fit_predict(x).collect()


def gaussian_mixtures():
    from dislib.cluster import GaussianMixture

    return GaussianMixture(n_components=3, random_state=1).fit_predict(x).collect()


def random_forest():
    from dislib.trees import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=3, random_state=0)
    model.fit(x, y)
    return model.predict(x).collect()


def cascade_svm():
    from dislib.classification import CascadeSVM

    binary = ds.array((labels > 0).astype(float)[:, None], (60, 1))
    model = CascadeSVM(max_iter=3, random_state=1)
    model.fit(x, binary)
    return model.predict(x).collect()


def nearest_neighbors():
    from dislib.classification import KNeighborsClassifier

    model = KNeighborsClassifier(n_neighbors=3)
    model.fit(x, y)
    return model.score(x, y, collect=True)


def grid_search():
    from dislib.classification import KNeighborsClassifier
    from dislib.model_selection import GridSearchCV

    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}, cv=3)
    search.fit(x, y)
    return search.best_params_["n_neighbors"], search.best_score_


def lasso():
    from dislib.regression import Lasso

    model = Lasso(lmbd=0.1, max_iter=10)
    model.fit(x, y)
    return model.predict(x).collect()


def linear_regression():
    from dislib.regression import LinearRegression

    model = LinearRegression()
    model.fit(whole_rows, y)
    return model.predict(whole_rows).collect()


def scaling():
    from dislib.preprocessing import MinMaxScaler, StandardScaler

    return StandardScaler().fit_transform(x).collect(), MinMaxScaler().fit_transform(x).collect()


def numbers(value):
    return [numbers(each) for each in value] if isinstance(value, tuple) else np.asarray(value).astype(float).tolist()


if __name__ == "__main__":
    print(json.dumps({name: numbers(globals()[name]()) for name in sys.argv[1:]}))
